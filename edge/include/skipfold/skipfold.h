/* skipfold, C ABI 1 (C11).
 *
 * The library opens a bundle (a folder that `python cli.py bundle` wrote), proves on this machine that the
 * network in it computes what was verified, and classifies pictures. The shortest program is
 *
 *     skf_classifier *net = NULL;
 *     uint8_t fitted[32 * 32 * 3];
 *     uint32_t label;
 *     if (skf_open("digits.bundle", NULL, &net) == SKF_OK &&
 *         skf_fit(net, rgb, width, height, 3 * width, fitted) == SKF_OK &&
 *         skf_classify(net, fitted, 1, &label, NULL) == SKF_OK)
 *       puts(skf_class_name(net, label));
 *     else
 *       fprintf(stderr, "%s\n", skf_message());
 *     skf_close(net);
 *
 * Errors.  Every function that can fail returns a skf_code. A call that fails leaves its outputs alone,
 * except where the function says otherwise, and puts a sentence into skf_message(). No exception leaves the
 * library.
 *
 * Memory.  Pointers that are passed in are borrowed until the call returns; the library keeps none of them.
 * What the library returns belongs to the object that it came from.
 *
 * Threads.  A classifier serves one thread at a time. Each further thread takes a skf_clone() of its own;
 * clones share the weights. A second thread that calls skf_classify or skf_infer on a busy object gets
 * SKF_BUSY at once. A function that takes a `const skf_classifier *` may be called by any thread at any time.
 *
 * Texts.  Texts and paths are UTF-8 and end in NUL.
 *
 * Structs.  Structs are passed by pointer and begin with their size. Members are only ever appended, so that
 * a program that was compiled with an older header runs with a newer library. A newer program runs with an
 * older library as long as the members that the library does not know are zero.
 */
#ifndef SKIPFOLD_SKIPFOLD_H
#define SKIPFOLD_SKIPFOLD_H

#include <stddef.h>
#include <stdint.h>

#ifdef SKF_BUILDING /* Defined by the library's own build, which hides every other symbol. */
#define SKF_API __attribute__((visibility("default")))
#else
#define SKF_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The ABI that this header describes; compare with skf_abi(). */
#define SKF_ABI 1u

/* An open network. */
typedef struct skf_classifier skf_classifier;

/* What a call came to. A value never changes its meaning; a newer library may return further ones. */
typedef int32_t skf_code;
enum {
  SKF_OK = 0,
  /* The caller's fault: a null pointer, a size of 0, a stride shorter than a row, NaN in an image. */
  SKF_ARGUMENT = 1,
  /* There is no such bundle, or no artifact of that id in it. */
  SKF_NOT_FOUND = 2,
  /* bundle.json is not JSON, has another schema, or contradicts itself, the files or the model. */
  SKF_MALFORMED = 3,
  /* The files are not those that bundle.json lists: one is missing, changed, extra, or a link. */
  SKF_ALTERED = 4,
  /* The artifact never passed `verify`, and SKF_ALLOW_UNVERIFIED was not set. */
  SKF_UNVERIFIED = 5,
  /* The runtime that the artifact needs is not installed here, or does not load. */
  SKF_NO_BACKEND = 6,
  /* The runtime here has a version that the bundle does not accept; the message names both. */
  SKF_VERSION = 7,
  /* Another architecture, no such GPU, or a CPU without VNNI for weights that need VNNI. */
  SKF_HARDWARE = 8,
  /* The self-test's results are further from the golden ones than the bundle allows. */
  SKF_TOLERANCE = 9,
  /* Another thread is inside a call on this object; clone the object. */
  SKF_BUSY = 10,
  /* The library could not allocate memory. */
  SKF_MEMORY = 11,
  /* The runtime failed, ignored a setting, or gave scores that are not finite. */
  SKF_RUNTIME = 12,
  /* A file or folder could not be read; the message has the system's reason. */
  SKF_IO = 13,
  /* Something was thrown that nobody expected: by the log callback, or by a bug of this library. */
  SKF_INTERNAL = 14
};

/* Flags for skf_options. */
enum {
  /* Open artifacts that never passed `verify`. */
  SKF_ALLOW_UNVERIFIED = 1u,
  /* Do not run the golden pictures. Opening is faster, and nothing is proved about this machine. */
  SKF_NO_SELF_TEST = 2u,
  /* Pixels come as OpenCV has them: blue, green, red. The floats of skf_infer stay red, green, blue. */
  SKF_BGR = 4u
};

/* Levels of the log callback. */
enum { SKF_LOG_INFO = 0, SKF_LOG_WARNING = 1 };

/* How to open a bundle. Zero-initialise the struct, then set `size`; zero is the default of every member. */
typedef struct skf_options {
  /* sizeof(skf_options) */
  size_t size;
  /* The id of one artifact in bundle.json. NULL takes the first, in the bundle's order, that runs here;
   * skf_info.skipped says which were passed over, and why. */
  const char *artifact;
  /* The SHA-256 of bundle.json in 64 hexadecimal digits, from a channel that you trust. With NULL the files
   * are proved to be those that bundle.json lists, and bundle.json may be anybody's. */
  const char *bundle_sha256;
  /* The most pictures of one call of the runtime; 0 stands for 1. The artifact's own limits come first:
   * a model of fixed batch 8 always runs 8, and the library fills up what is missing. */
  uint32_t max_batch;
  /* The most CPU threads of one call, up to 1024; 0 leaves the number to the bundle and the runtime. */
  uint32_t threads;
  /* The number of the GPU, for TensorRT. */
  uint32_t device;
  /* SKF_ALLOW_UNVERIFIED | SKF_NO_SELF_TEST | SKF_BGR */
  uint32_t flags;
  /* Called during skf_open, on the calling thread, with a level and a text that lives until the callback
   * returns. May be NULL. The callback must not throw. */
  void (*log)(void *user, int level, const char *text);
  /* The first argument of `log`. */
  void *user;
} skf_options;

/* What is open. Zero-initialise the struct, then set `size`. Texts live as long as the object. */
typedef struct skf_info {
  /* sizeof(skf_info) */
  size_t size;
  /* The size of a fitted picture, in pixels. */
  uint32_t height, width;
  /* The number of scores of a picture. */
  uint32_t classes;
  /* The most pictures of one call of the runtime. */
  uint32_t max_batch;
  /* The artifact's id, for example "openvino-int8". */
  const char *artifact;
  /* "openvino", "ort", "tensorrt" or "tensorrt-rtx" */
  const char *backend;
  /* "fp32", "int8", ... */
  const char *precision;
  /* The version of the runtime that is loaded here, for example "2026.4.1". */
  const char *runtime_version;
  /* What the scores of skf_classify are: "logits" or "probabilities". */
  const char *values;
  /* A line for each artifact that was passed over, with the reason; "" if there is none. */
  const char *skipped;
  /* 1 if the runtime has the version that the bundle was verified with, otherwise 0. */
  int32_t runtime_as_verified;
  /* 1 if the artifact normalises inside its graph; skf_infer then refuses floats. */
  int32_t takes_pixels;
  /* Signal to noise of the self-test's scores here, in dB: infinity if all are equal to the golden ones, NaN
   * if the self-test was switched off. */
  double snr_db;
} skf_info;

/* The ABI of the loaded library: SKF_ABI of the header that the library was built with. Cannot fail. */
SKF_API uint32_t skf_abi(void);

/* The name of a code, for example "SKF_TOLERANCE"; "unknown code" for others. A constant; cannot fail. */
SKF_API const char *skf_code_name(skf_code code);

/* The message of this thread's last call that failed, in one or more lines; "" before the first. The text is
 * this thread's own, and stays until the next call on this thread that fails. Cannot fail. */
SKF_API const char *skf_message(void);

/* One line for each back end that this library knows: its name, then the runtime's version or why the back
 * end does not load, for example "openvino 2026.4.1" or "ort does not load: libonnxruntime.so.1: cannot open
 * shared object file". Loads the runtimes that are not loaded yet. The text is this thread's own, and stays
 * until this thread calls this function again. Returns "" if there is no memory. */
SKF_API const char *skf_backends(void);

/* Check the files of a bundle without opening a runtime: schema, closed list of files, sizes and hashes.
 *
 * bundle         the path of the folder
 * bundle_sha256  as in skf_options; may be NULL
 *
 * SKF_ARGUMENT, SKF_NOT_FOUND, SKF_MALFORMED, SKF_ALTERED, SKF_IO, SKF_MEMORY. */
SKF_API skf_code skf_check(const char *bundle, const char *bundle_sha256);

/* Open a bundle. The library checks the files, chooses an artifact, checks the runtime's version and this CPU
 * or GPU, applies the bundle's settings and reads them back, then runs the golden pictures and compares.
 *
 * bundle   the path of the folder, which is read during this call only
 * options  may be NULL, which stands for a struct of zeros
 * out      receives an object that the caller gives back with skf_close
 *
 * Any code but SKF_BUSY. If `options->artifact` is NULL and no artifact runs here, the code is that of the
 * first artifact whose runtime is there at all (SKF_NO_BACKEND if none is), and the message has a line for
 * each. */
SKF_API skf_code skf_open(const char *bundle, const skf_options *options, skf_classifier **out);

/* Make an object for one more thread. The clone shares the weights with `self`, and either may be closed
 * first.
 *
 * out  receives an object that the caller gives back with skf_close
 *
 * SKF_ARGUMENT, SKF_MEMORY, SKF_RUNTIME. */
SKF_API skf_code skf_clone(const skf_classifier *self, skf_classifier **out);

/* Close an object; NULL is allowed. No other call on `self` may be running, and none may follow. */
SKF_API void skf_close(skf_classifier *self);

/* Describe what is open. `out->size` has to be set. Bytes behind that size are left alone, and so are members
 * that this library does not know.
 *
 * SKF_ARGUMENT. */
SKF_API skf_code skf_get_info(const skf_classifier *self, skf_info *out);

/* The name of a class, which lives as long as `self`. NULL if there is no such label or `self` is NULL. */
SKF_API const char *skf_class_name(const skf_classifier *self, uint32_t label);

/* Cut the centre square out of a picture and resize it as training and Python's `predict` do, bit for bit.
 *
 * pixels         rows of 3 bytes a pixel; the order of the colours does not matter here and is kept
 * width, height  in pixels, at least 1
 * stride         from the beginning of a row to the next, in bytes, at least 3 * width
 * out            receives info.height * info.width * 3 bytes, rows without gaps
 *
 * The square has side = min(width, height) and begins at column (width - side) / 2 and row
 * (height - side) / 2, both rounded down.
 *
 * SKF_ARGUMENT, SKF_MEMORY. */
SKF_API skf_code skf_fit(const skf_classifier *self, const uint8_t *pixels, uint32_t width, uint32_t height,
                         size_t stride, uint8_t *out);

/* Classify fitted pictures.
 *
 * pixels  n pictures of info.height * info.width * 3 bytes, one after the other, in red, green, blue, or in
 *         blue, green, red if SKF_BGR was set
 * n       any number, at least 1; the library cuts batches of info.max_batch
 * labels  receives n labels, each the first class of the greatest score; may be NULL
 * scores  receives n * info.classes floats, which info.values names; may be NULL
 *
 * A failure after the first batch leaves the results of the earlier batches in `labels` and `scores`.
 *
 * SKF_ARGUMENT, SKF_BUSY, SKF_RUNTIME, SKF_MEMORY. */
SKF_API skf_code skf_classify(skf_classifier *self, const uint8_t *pixels, size_t n, uint32_t *labels,
                              float *scores);

/* Run the network on normalised images.
 *
 * images  n images of 3 * info.height * info.width finite floats: planes red, green, blue of
 *         x * scale - shift
 * n       any number, at least 1; the library cuts batches of info.max_batch
 * logits  receives n * info.classes floats
 *
 * A failure after the first batch leaves the results of the earlier batches in `logits`.
 *
 * SKF_ARGUMENT (also if info.takes_pixels is 1), SKF_BUSY, SKF_RUNTIME, SKF_MEMORY. */
SKF_API skf_code skf_infer(skf_classifier *self, const float *images, size_t n, float *logits);

/* Normalise fitted pictures into what skf_infer takes: x * scale - shift, rounded to float32 after each step.
 *
 * pixels  as in skf_classify
 * n       any number, at least 1
 * images  receives n * 3 * info.height * info.width floats
 *
 * SKF_ARGUMENT. */
SKF_API skf_code skf_normalise(const skf_classifier *self, const uint8_t *pixels, size_t n, float *images);

#ifdef __cplusplus
}
#endif
#endif
