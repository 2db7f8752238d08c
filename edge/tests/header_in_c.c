/* A C11 program on the header alone: what a caller sees before there is a bundle. */
#include <stdio.h>
#include <string.h>

#include "skipfold/skipfold.h"

/* Programs that were compiled earlier rely on these places. Members are only ever appended. */
#if defined(__LP64__)
#define AT(type, member, place) _Static_assert(offsetof(type, member) == (place), #member " has moved")
AT(skf_options, artifact, 8);
AT(skf_options, bundle_sha256, 16);
AT(skf_options, max_batch, 24);
AT(skf_options, threads, 28);
AT(skf_options, device, 32);
AT(skf_options, flags, 36);
AT(skf_options, log, 40);
AT(skf_options, user, 48);
_Static_assert(sizeof(skf_options) == 56, "ABI 1 has these options");
AT(skf_info, height, 8);
AT(skf_info, width, 12);
AT(skf_info, classes, 16);
AT(skf_info, max_batch, 20);
AT(skf_info, artifact, 24);
AT(skf_info, backend, 32);
AT(skf_info, precision, 40);
AT(skf_info, runtime_version, 48);
AT(skf_info, values, 56);
AT(skf_info, skipped, 64);
AT(skf_info, runtime_as_verified, 72);
AT(skf_info, takes_pixels, 76);
AT(skf_info, snr_db, 80);
#endif

int opened_without_exceptions(const char *bundle); /* header_without_exceptions.cpp */

int main(void) {
  skf_options options = {0};
  skf_classifier *net = NULL;
  options.size = sizeof options;
  if (skf_abi() != SKF_ABI) return 1;
  if (strcmp(skf_message(), "") != 0) return 2;
  if (skf_open("no/such/bundle", &options, &net) != SKF_NOT_FOUND || net != NULL) return 3;
  if (strcmp(skf_code_name(SKF_NOT_FOUND), "SKF_NOT_FOUND") != 0) return 4;
  if (strstr(skf_message(), "no/such/bundle") == NULL) return 5;
  skf_close(NULL);
  printf("%s\n%s\n", skf_message(), skf_backends());
  return opened_without_exceptions("no/such/bundle") ? 6 : 0;
}
