#include "skipfold/skipfold.h"

extern "C" {
uint32_t skf_abi(void) { return SKF_ABI; }
const char* skf_code_name(skf_code) { return "unknown code"; }
const char* skf_message(void) { return ""; }
const char* skf_backends(void) { return ""; }
skf_code skf_check(const char*, const char*) { return SKF_NO_BACKEND; }
skf_code skf_open(const char*, const skf_options*, skf_classifier**) { return SKF_NO_BACKEND; }
skf_code skf_clone(const skf_classifier*, skf_classifier**) { return SKF_NO_BACKEND; }
void skf_close(skf_classifier*) {}
skf_code skf_get_info(const skf_classifier*, skf_info*) { return SKF_NO_BACKEND; }
const char* skf_class_name(const skf_classifier*, uint32_t) { return nullptr; }
skf_code skf_fit(const skf_classifier*, const uint8_t*, uint32_t, uint32_t, size_t, uint8_t*) { return SKF_NO_BACKEND; }
skf_code skf_classify(skf_classifier*, const uint8_t*, size_t, uint32_t*, float*) { return SKF_NO_BACKEND; }
skf_code skf_infer(skf_classifier*, const float*, size_t, float*) { return SKF_NO_BACKEND; }
skf_code skf_normalise(const skf_classifier*, const uint8_t*, size_t, float*) { return SKF_NO_BACKEND; }
}
