/* A C11 program on the header alone: what a caller sees before there is a bundle. */
#include <stdio.h>
#include <string.h>

#include "skipfold/skipfold.h"

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
