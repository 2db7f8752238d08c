import json
from dataclasses import replace

import pytest

from calibration.quantizing.scheme import DEFAULT_SATURATION, FP8, RTX, RTX_FP8, STREAMS, Scheme
from errors import UserError

EVERY = [Scheme(flavour, stream=stream) for flavour, streams in STREAMS.items() for stream in streams]


def test_defaults():
    assert Scheme("cpu") == Scheme(
        "cpu",
        precision="int8",
        stream="int8",
        saturation=DEFAULT_SATURATION,
        correct_bias=True,
        float_blocks=(),
    )
    assert DEFAULT_SATURATION == "stem"


@pytest.mark.parametrize(
    ("flavour", "stream"), [("cpu", "fp16"), ("cpu", "bf16"), ("gpu", "int4"), ("gpu", "")]
)
def test_stream_that_a_flavour_has_not_is_refused_and_the_others_are_listed(flavour, stream):
    with pytest.raises(UserError, match=f"the {flavour} flavour has no {stream} stream") as refusal:
        Scheme(flavour, stream=stream)
    assert refusal.value.fix == f"use --stream {' or '.join(STREAMS[flavour])}"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"flavour": "tpu"}, "flavour must be one of cpu, openvino, gpu, rtx, got 'tpu'"),
        ({"flavour": "any"}, "flavour .* got 'any'"),
        ({"precision": "fp16"}, "precision must be one of int8, fp8, got 'fp16'"),
        ({"saturation": "some"}, "saturation must be one of stem, proved, full, got 'some'"),
        ({"saturation": ""}, "saturation .* got ''"),
        ({"precision": "fp8"}, "must be in the gpu or rtx flavour with an fp16 stream, got cpu with int8"),
        ({"flavour": "gpu", "precision": "fp8"}, "got gpu with int8"),
        ({"flavour": "gpu", "precision": "fp8", "stream": "fp32"}, "got gpu with fp32"),
    ],
)
def test_what_there_is_not_is_a_bug_of_the_caller(fields, problem):
    with pytest.raises(ValueError, match=problem):
        Scheme(**{"flavour": "cpu", **fields})


def test_fp8_is_a_scheme():
    assert (FP8.flavour, FP8.precision, FP8.stream) == ("gpu", "fp8", "fp16")
    assert replace(FP8, flavour="rtx") == RTX_FP8 == replace(RTX, precision="fp8")


def test_cpus_have_no_half_stream():
    assert {flavour: set(streams) for flavour, streams in STREAMS.items()} == {
        "cpu": {"int8", "fp32"},
        "openvino": {"int8", "fp32"},
        "gpu": {"int8", "fp16", "fp32"},
        "rtx": {"fp16"},
    }


@pytest.mark.parametrize("scheme", EVERY)
def test_json_values_tell_schemes_apart(scheme):
    others = [
        *(other for other in EVERY if other != scheme),
        replace(scheme, correct_bias=False),
        replace(scheme, float_blocks=("stage1.0.add",)),
        replace(scheme, float_blocks=("stage2.0.add",)),
    ]
    texts = [json.dumps(entry.to_json(), sort_keys=True) for entry in (scheme, *others)]
    assert len(set(texts)) == len(texts)
    for entry in (scheme, *others):
        # The manifest gives the values back in this way.
        assert json.loads(json.dumps(entry.to_json())) == entry.to_json()


def test_saturation_decides_nothing_in_the_flavours_for_gpus():
    for scheme, decides in ((Scheme("cpu"), True), (Scheme("gpu"), False), (RTX, False)):
        stem, full = (replace(scheme, saturation=name).to_json() for name in ("stem", "full"))
        assert (stem != full) == decides
        assert ("saturation" in stem) == decides
