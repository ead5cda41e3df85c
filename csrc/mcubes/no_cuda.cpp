// What stands in for cuda.cu in a module without CUDA. The binding asks `compiled` first, so nobody meets the errors.
#include <stdexcept>

#include "cuda.hpp"

namespace mcubes::cuda {
namespace {

[[noreturn]] void refuse() { throw std::logic_error("this module was compiled without CUDA"); }

}  // namespace

const bool compiled = false;

struct Mesher::State {};

std::string targets() { return ""; }
int device_count() noexcept { return 0; }
std::shared_ptr<void> memory(std::size_t, const Stream&) { refuse(); }
void copy_to_host(void*, const void*, std::size_t, const Stream&) { refuse(); }
void copy_to_device(void*, const void*, std::size_t, const Stream&) { refuse(); }

Stream::Stream(int device) : device_(device) { refuse(); }
Stream::~Stream() = default;

Mesher::Mesher(const Volume&, float, const Stream&) { refuse(); }
Mesher::~Mesher() = default;
Counts Mesher::counts() const { refuse(); }

template <typename Index>
void Mesher::write(const Frame&, float*, Index*) const {
  refuse();
}
template void Mesher::write(const Frame&, float*, std::int32_t*) const;
template void Mesher::write(const Frame&, float*, std::int64_t*) const;

}  // namespace mcubes::cuda
