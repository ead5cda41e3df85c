// Marching cubes on CUDA. Four kernels and a scan (kernels.cuh), one stream; the host waits twice, for the two counts
// and for the end. docs/explanation/marching-cubes.md explains the passes.
#include <cuda_runtime.h>

#include <algorithm>
#include <cub/device/device_scan.cuh>
#include <map>
#include <mutex>

#include "check.cuh"
#include "cuda.hpp"
#include "kernels.cuh"

namespace mcubes::cuda {
namespace {

// What the pool of a device keeps for the next call instead of returning it to the driver.
constexpr std::uint64_t kKeptBytes = std::uint64_t{1} << 30;

constexpr int kBlocksPerProcessor = 32;  // more than are resident, so that groups without a crossing even out

// Makes a device the current one, and the one before it again at the end.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    CUDA_CHECK(cudaGetDevice(&before_));
    CUDA_CHECK(cudaSetDevice(device));
  }
  ~OnDevice() { CUDA_CHECK_NOTHROW(cudaSetDevice(before_)); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

cudaStream_t native(const Stream& stream) { return reinterpret_cast<cudaStream_t>(stream.handle()); }

cudaMemPool_t make_pool(int device) {
  int supported = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, device));
  if (supported == 0) return nullptr;
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool = nullptr;
  CUDA_CHECK(cudaMemPoolCreate(&pool, &properties));
  std::uint64_t kept = kKeptBytes;
  CUDA_CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept));
  return pool;
}

// The device's pool, made at the first use and kept to the end; null where the driver has none (some vGPUs).
cudaMemPool_t pool_of(int device) {
  static std::mutex mutex;
  static std::map<int, cudaMemPool_t> pools;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = pools.find(device);
  return found != pools.end() ? found->second : pools[device] = make_pool(device);
}

void* allocate(std::size_t bytes, int device, cudaStream_t stream) {
  void* memory = nullptr;
  const cudaMemPool_t pool = pool_of(device);
  if (pool != nullptr)
    CUDA_CHECK(cudaMallocFromPoolAsync(&memory, bytes, pool, stream));
  else
    CUDA_CHECK(cudaMalloc(&memory, bytes));
  return memory;
}

void release(void* memory, int device, cudaStream_t stream) noexcept {
  try {
    if (pool_of(device) != nullptr)
      CUDA_CHECK(cudaFreeAsync(memory, stream));
    else
      CUDA_CHECK(cudaFree(memory));
  } catch (const std::exception&) {
    // At exit the driver may have gone before us, and its memory with it.
  }
}

// Memory for the time of one call, in stream order.
template <typename Item>
class Scratch {
 public:
  Scratch(std::int64_t items, int device, cudaStream_t stream)
      : device_(device), stream_(stream),
        items_(static_cast<Item*>(allocate(sizeof(Item) * static_cast<std::size_t>(items), device, stream))) {}
  ~Scratch() { release(items_, device_, stream_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  Item* get() const { return items_; }

 private:
  int device_;
  cudaStream_t stream_;
  Item* items_;
};

// Blocks for a grid-stride loop of one warp an item.
unsigned blocks_for(std::int64_t items, int device) {
  int processors = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  constexpr int warps = kBlock / kWarp;
  const std::int64_t most = static_cast<std::int64_t>(processors) * kBlocksPerProcessor;
  return static_cast<unsigned>(std::min((items + warps - 1) / warps, most));
}

struct Plus {
  __host__ __device__ Counts operator()(const Counts& a, const Counts& b) const {
    return {a.vertices + b.vertices, a.triangles + b.triangles};
  }
};

// counts[i] becomes the sum of those before it, in place.
void scan(Counts* counts, std::int64_t items, int device, cudaStream_t stream) {
  const auto run = [&](void* memory, std::size_t& bytes) {
    CUDA_CHECK(cub::DeviceScan::ExclusiveScan(memory, bytes, counts, counts, Plus{}, Counts{0, 0}, items, stream));
  };
  std::size_t bytes = 0;
  run(nullptr, bytes);
  const Scratch<char> memory(static_cast<std::int64_t>(std::max<std::size_t>(bytes, 1)), device, stream);
  run(memory.get(), bytes);
}

}  // namespace

const bool compiled = true;

std::string targets() {
  std::string listed;
  for (const int arch : {__CUDA_ARCH_LIST__}) {
    const std::string dotted = std::to_string(arch / 100) + "." + std::to_string(arch / 10 % 10);
    listed += (listed.empty() ? "" : ";") + dotted;
  }
  return listed;
}

int device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

std::shared_ptr<void> memory(std::size_t bytes, const Stream& stream) {
  const int device = stream.device();
  const OnDevice current(device);
  return {allocate(bytes, device, native(stream)), [device](void* address) {
            try {
              const OnDevice here(device);
              // A consumer that lets go of it has perhaps only queued what reads it, on a stream unknown to us.
              CUDA_CHECK(cudaDeviceSynchronize());
              release(address, device, cudaStreamLegacy);
            } catch (const std::exception&) {
              // As in release().
            }
          }};
}

void copy_to_host(void* host, const void* on_device, std::size_t bytes, const Stream& stream) {
  const OnDevice current(stream.device());
  CUDA_CHECK(cudaMemcpyAsync(host, on_device, bytes, cudaMemcpyDeviceToHost, native(stream)));
  CUDA_CHECK(cudaStreamSynchronize(native(stream)));
}

void copy_to_device(void* on_device, const void* host, std::size_t bytes, const Stream& stream) {
  const OnDevice current(stream.device());
  CUDA_CHECK(cudaMemcpyAsync(on_device, host, bytes, cudaMemcpyHostToDevice, native(stream)));
  CUDA_CHECK(cudaStreamSynchronize(native(stream)));
}

Stream::Stream(int device) : device_(device) {
  const OnDevice current(device);
  cudaStream_t stream = nullptr;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  handle_ = reinterpret_cast<std::uintptr_t>(stream);
}

Stream::~Stream() { CUDA_CHECK_NOTHROW(cudaStreamDestroy(native(*this))); }

struct Mesher::State {
  Volume volume;
  Layout layout;
  std::int64_t groups;
  int device;
  cudaStream_t stream;
  Scratch<Word> bits;
  Scratch<Crossings> crossings;
  Scratch<Counts> before;  // of each group, and the totals at the end
  Counts totals{0, 0};

  State(const Volume& volume, const Layout& layout, int device, cudaStream_t stream)
      : volume(volume), layout(layout), groups((layout.words + kWarp - 1) / kWarp), device(device), stream(stream),
        bits(layout.words, device, stream), crossings(layout.words, device, stream),
        before(groups + 1, device, stream) {}
  // The scratch memory goes in stream order; the volume goes when its lender takes it back.
  ~State() { CUDA_CHECK_NOTHROW(cudaStreamSynchronize(stream)); }

  void classify_and_count(float isovalue) {
    const std::int64_t steps = layout.nx * layout.ny * ((layout.row_words + kStepWords - 1) / kStepWords);
    classify<<<blocks_for(steps, device), kBlock, 0, stream>>>(volume, isovalue, layout, bits.get());
    CUDA_CHECK_LAUNCH();
    count<<<blocks_for(groups, device), kBlock, 0, stream>>>(bits.get(), layout, groups, crossings.get(), before.get());
    CUDA_CHECK_LAUNCH();
    CUDA_CHECK(cudaMemsetAsync(before.get() + groups, 0, sizeof(Counts), stream));
    scan(before.get(), groups + 1, device, stream);
    CUDA_CHECK(cudaMemcpyAsync(&totals, before.get() + groups, sizeof totals, cudaMemcpyDeviceToHost, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
  }
};

Mesher::Mesher(const Volume& volume, float isovalue, const Stream& stream) {
  const Layout layout(volume.size, kWarp);
  if (!layout.has_cells()) return;
  const OnDevice current(stream.device());
  state_ = std::make_unique<State>(volume, layout, stream.device(), native(stream));
  state_->classify_and_count(isovalue);
}

Mesher::~Mesher() {
  if (state_ == nullptr) return;
  try {
    const OnDevice current(state_->device);
    state_.reset();
  } catch (const std::exception&) {
    // The context is gone, and all that it held.
  }
}

Counts Mesher::counts() const { return state_ != nullptr ? state_->totals : Counts{0, 0}; }

template <typename Index>
void Mesher::write(const Frame& frame, float* vertices, Index* triangles) const {
  if (counts().vertices == 0) return;
  const State& s = *state_;
  const OnDevice current(s.device);
  const unsigned blocks = blocks_for(s.groups, s.device);
  write_vertices<<<blocks, kBlock, 0, s.stream>>>(s.volume, frame, s.layout, s.groups, s.crossings.get(),
                                                  s.before.get(), vertices);
  CUDA_CHECK_LAUNCH();
  write_triangles<<<blocks, kBlock, 0, s.stream>>>(s.bits.get(), s.layout, s.groups, s.crossings.get(),
                                                   s.before.get(), triangles);
  CUDA_CHECK_LAUNCH();
  CUDA_CHECK(cudaStreamSynchronize(s.stream));
}

template void Mesher::write(const Frame&, float*, std::int32_t*) const;
template void Mesher::write(const Frame&, float*, std::int64_t*) const;

}  // namespace mcubes::cuda
