#ifdef WITH_CUDA
const char* where_cuda();
const char* where() { return where_cuda(); }
#else
const char* where() { return "cpu"; }
#endif
