/* The classes of a bundle's golden pictures, one a line, through the C ABI in C11.
 *
 *     consumer-c BUNDLE ARTIFACT */
#include <stdio.h>
#include <string.h>

#include "skipfold/skipfold.h"

enum { SIDE = 32, PICTURE = SIDE * SIDE * 3 };

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, skf_message());
  return 1;
}

static int print_classes(skf_classifier* net, FILE* pictures) {
  uint8_t picture[PICTURE];
  while (fread(picture, 1, PICTURE, pictures) == PICTURE) {
    uint32_t label;
    if (skf_classify(net, picture, 1, &label, NULL) != SKF_OK) return fail("skf_classify");
    puts(skf_class_name(net, label));
  }
  return 0;
}

static int classify(skf_classifier* net, const char* bundle) {
  skf_info info;
  memset(&info, 0, sizeof info);
  info.size = sizeof info;
  if (skf_get_info(net, &info) != SKF_OK || info.height != SIDE || info.width != SIDE)
    return fail("skf_get_info");

  char path[4096];
  snprintf(path, sizeof path, "%s/golden/fitted.u8", bundle);
  FILE* pictures = fopen(path, "rb");
  if (!pictures) return fail(path);
  const int status = print_classes(net, pictures);
  fclose(pictures);
  return status;
}

int main(int count, char** values) {
  if (count != 3 || skf_abi() != SKF_ABI) return fail("usage: consumer-c BUNDLE ARTIFACT");
  skf_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.artifact = values[2];

  skf_classifier* net = NULL;
  if (skf_open(values[1], &options, &net) != SKF_OK) return fail("skf_open");
  const int status = classify(net, values[1]);
  skf_close(net);
  return status;
}
