"""What a quantized graph has to be before a runtime opens it."""

from collections.abc import Collection

from errors import UserError
from graphs.card import GraphCard
from machine.cpu import adds_products_in_16_bits
from vocabulary import Flavour, Saturation


def require_sums_that_fit(name: str, saturation: str) -> None:
    """Refuse full 8-bit weights on a CPU whose kernels add two products in 16 bits.

    Args:
        name: the file or the command that has the weights, for the error.
        saturation: which weights are kept small; see `GraphCard`.

    Raises:
        UserError: `saturation` is "full", and this CPU has no VNNI.
    """
    if saturation == Saturation.full and adds_products_in_16_bits():
        raise UserError(
            f"{name} has weights of the full 8 bits, and this CPU has no VNNI: sums of two products "
            "overflow 16 bits",
            "calibrate with --saturation stem or proved, or insist with --allow-saturation",
        )


def require_made_for(
    reader: str, file: str, card: GraphCard, precision: str, flavours: Collection[Flavour]
) -> None:
    """Refuse a graph that was made in another precision or for another runtime.

    Args:
        reader: what is about to read the file, for the error.
        file: the name of the file, for the error.
        card: the card of the file.
        precision: the precision that was asked for.
        flavours: the flavours that the reader can read.

    Raises:
        UserError: the card names another precision or flavour.
    """
    if card.precision != precision or card.flavour not in flavours:
        raise UserError(
            f"{file} is {card.precision} of flavour {card.flavour}, and {reader} was asked for {precision} "
            f"of flavour {' or '.join(sorted(flavours))}",
            f"use the file that was made for {reader} in {precision}",
        )
