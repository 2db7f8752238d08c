// TensorRT, or TensorRT for RTX where SKF_TENSORRT_RTX is defined, on one NVIDIA GPU. Only calls that both
// libraries have are used. Compiled against NVIDIA's public headers; this file has not run on a GPU.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "module.hpp"

namespace skf {
namespace {

#ifdef SKF_TENSORRT_RTX
constexpr const char* kName = "tensorrt-rtx";
#else
constexpr const char* kName = "tensorrt";
#endif

void check(cudaError_t error, const char* what) {
  if (error == cudaErrorMemoryAllocation)
    throw Failure(SKF_MEMORY, words("the GPU has no memory for ", what));
  if (error != cudaSuccess) fail(SKF_RUNTIME, "CUDA cannot ", what, ": ", cudaGetErrorString(error));
}

// Keeps TensorRT's last error, because its functions return null or false without a reason.
class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    if (severity > Severity::kERROR) return;
    const std::lock_guard<std::mutex> hold(lock_);
    std::snprintf(last_, sizeof last_, "%s", text);
  }

  [[noreturn]] void fail_to(const char* what) {
    const std::lock_guard<std::mutex> hold(lock_);
    fail(SKF_RUNTIME, kName, " cannot ", what, ": ", last_[0] ? last_ : "it gives no reason");
  }

 private:
  std::mutex lock_;
  char last_[512] = "";
};

std::string text_of(std::uint32_t capability) { return words(capability / 10, ".", capability % 10); }

std::uint32_t capability_of(int device) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "ask the GPU for its capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
        "ask the GPU for its capability");
  return static_cast<std::uint32_t>(10 * major + minor);
}

// Chooses the GPU for this thread; every function that talks to CUDA begins with it.
void choose(int device) { check(cudaSetDevice(device), "choose the GPU"); }

void require_gpu(const Request& request) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) fail(SKF_HARDWARE, "CUDA finds no GPU here: ", cudaGetErrorString(error));
  if (static_cast<std::uint32_t>(count) <= request.device)
    fail(SKF_HARDWARE, "GPU ", request.device, " was asked for, and here are ", count);
  const std::uint32_t found = capability_of(static_cast<int>(request.device));
  const std::uint32_t* end = request.capabilities + request.capability_count;
  if (request.capability_count == 0 || std::find(request.capabilities, end, found) != end) return;
  std::string wanted;
  for (const std::uint32_t* one = request.capabilities; one != end; ++one)
    wanted += (wanted.empty() ? "" : ", ") + text_of(*one);
  fail(SKF_HARDWARE, "the engine is for compute capability ", wanted, ", and GPU ", request.device, " has ",
       text_of(found));
}

// The one setting: "captured" launches each batch size as a CUDA graph.
bool captures(const Request& request) {
  bool captured = false;
  for (std::size_t i = 0; i < request.setting_count; ++i) {
    const std::string key = request.settings[i].key, value = request.settings[i].value;
    if (key != "cuda_graph")
      fail(SKF_MALFORMED, "bundle.json has the setting ", key, " of ", kName,
           ", which this library does not know");
    if (value != "none" && value != "captured")
      fail(SKF_MALFORMED, "bundle.json sets cuda_graph of ", kName, " to ", value,
           ", and this library wants none or captured");
    captured = value == "captured";
  }
  return captured;
}

std::string text_of(const nvinfer1::Dims& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.nbDims; ++i) text += (i ? ", " : "") + std::to_string(shape.d[i]);
  return text + "]";
}

bool fits(const nvinfer1::Dims& found, const nvinfer1::Dims& wanted) {
  if (found.nbDims != wanted.nbDims) return false;
  for (int i = 0; i < found.nbDims; ++i)
    if (found.d[i] >= 0 && found.d[i] != wanted.d[i]) return false;
  return true;
}

// What the clones of a network share. An engine may have many contexts, each for one thread.
struct Shared {
  explicit Shared(const Request& request)
      : device(static_cast<int>(request.device)),
        batch(request.batch),
        captured(captures(request)),
        input_name(request.input),
        output_name(request.output),
        pixel_type(request.takes_pixels ? nvinfer1::DataType::kUINT8 : nvinfer1::DataType::kFLOAT) {
    require_gpu(request);
    choose(device);
    const std::int64_t size = request.size;
    input = request.takes_pixels ? nvinfer1::Dims{4, {batch, size, size, 3}}
                                 : nvinfer1::Dims{4, {batch, 3, size, size}};
    output = nvinfer1::Dims{2, {batch, request.classes}};
    runtime.reset(nvinfer1::createInferRuntime(logger));
    if (!runtime) logger.fail_to("start");
    engine.reset(runtime->deserializeCudaEngine(request.model, request.model_bytes));
    if (!engine) logger.fail_to("read the engine, which opens only in the version that built it");
    require_tensor(input_name, pixel_type, input);
    require_tensor(output_name, nvinfer1::DataType::kFLOAT, output);
    profile = profile_for(request.batch_min);
  }

  void require_tensor(const std::string& name, nvinfer1::DataType type, const nvinfer1::Dims& shape) const {
    if (engine->getTensorIOMode(name.c_str()) == nvinfer1::TensorIOMode::kNONE)
      fail(SKF_MALFORMED, "the engine has no tensor ", name, ", which bundle.json names");
    const nvinfer1::Dims found = engine->getTensorShape(name.c_str());
    const nvinfer1::DataType found_type = engine->getTensorDataType(name.c_str());
    if (found_type != type || !fits(found, shape))
      fail(SKF_MALFORMED, "the engine's tensor ", name, " is of type ", static_cast<int>(found_type), " ",
           text_of(found), ", and bundle.json says ", static_cast<int>(type), " ", text_of(shape));
  }

  // The optimization profile that takes every batch from `least` to the largest.
  int profile_for(std::uint32_t least) const {
    using Selector = nvinfer1::OptProfileSelector;
    for (int i = 0; i < engine->getNbOptimizationProfiles(); ++i) {
      const auto smallest = engine->getProfileShape(input_name.c_str(), i, Selector::kMIN).d[0];
      const auto largest = engine->getProfileShape(input_name.c_str(), i, Selector::kMAX).d[0];
      if (smallest <= least && largest >= batch) return i;
    }
    fail(SKF_MALFORMED, "the engine has no profile for batches of ", least, " to ", batch);
  }

  int device;
  std::int64_t batch;
  bool captured;
  std::string input_name, output_name;
  nvinfer1::DataType pixel_type;
  nvinfer1::Dims input{}, output{};
  int profile = 0;
  mutable Logger logger;
  std::unique_ptr<nvinfer1::IRuntime> runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;  // destroyed before its runtime
};

// Memory of the GPU with pinned memory of the host beside it, which the GPU copies without the CPU.
class Buffer {
 public:
  explicit Buffer(std::size_t size) : bytes(size) {
    const cudaError_t error = cudaMalloc(&device, bytes);
    if (error == cudaSuccess && cudaMallocHost(&host, bytes) == cudaSuccess) return;
    cudaFree(device);
    check(cudaErrorMemoryAllocation, "a batch of pictures");
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    cudaFreeHost(host);
    cudaFree(device);
  }

  std::size_t bytes;
  void* device = nullptr;
  void* host = nullptr;
};

// A stream of one's own, which does not wait for the default stream of the program.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream"); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }
  void wait() const { check(cudaStreamSynchronize(stream_), "run the engine"); }

 private:
  cudaStream_t stream_ = nullptr;
};

std::size_t volume(const nvinfer1::Dims& shape) {
  std::size_t values = 1;
  for (int i = 0; i < shape.nbDims; ++i) values *= static_cast<std::size_t>(shape.d[i]);
  return values;
}

class TensorRtNet {
 public:
  static const char* version() {
    static const std::string text =
        words(getInferLibMajorVersion(), ".", getInferLibMinorVersion(), ".", getInferLibPatchVersion());
    return text.c_str();
  }

  explicit TensorRtNet(const Request& request) : TensorRtNet(std::make_shared<const Shared>(request)) {}

  explicit TensorRtNet(std::shared_ptr<const Shared> shared) : shared_(std::move(shared)) {
    choose(shared_->device);
    const std::size_t pixel = shared_->pixel_type == nvinfer1::DataType::kFLOAT ? sizeof(float) : 1;
    stream_ = std::make_unique<Stream>();
    input_ = std::make_unique<Buffer>(volume(shared_->input) * pixel);
    output_ = std::make_unique<Buffer>(volume(shared_->output) * sizeof(float));
    context_.reset(shared_->engine->createExecutionContext());
    if (!context_) shared_->logger.fail_to("make an execution context");
    require(context_->setOptimizationProfileAsync(shared_->profile, *stream_), "choose a profile");
    stream_->wait();
    require(context_->setTensorAddress(shared_->input_name.c_str(), input_->device), "bind the input");
    require(context_->setTensorAddress(shared_->output_name.c_str(), output_->device), "bind the output");
    graphs_.resize(static_cast<std::size_t>(shared_->batch) + 1, nullptr);
  }

  TensorRtNet(const TensorRtNet&) = delete;
  TensorRtNet& operator=(const TensorRtNet&) = delete;
  ~TensorRtNet() {
    for (const cudaGraphExec_t graph : graphs_)
      if (graph) cudaGraphExecDestroy(graph);
  }

  std::unique_ptr<TensorRtNet> clone() const { return std::make_unique<TensorRtNet>(shared_); }

  void* input() { return input_->host; }
  float* output() { return static_cast<float*>(output_->host); }

  void run(std::size_t pictures) {
    choose(shared_->device);
    if (graphs_[pictures]) {
      check(cudaGraphLaunch(graphs_[pictures], *stream_), "launch the captured graph");
      return stream_->wait();
    }
    set_batch(pictures);
    enqueue(pictures);
    stream_->wait();
    // The first run of a shape may allocate, which a capture must not contain, so that the second run is
    // captured.
    if (shared_->captured) graphs_[pictures] = captured(pictures);
  }

 private:
  void require(bool done, const char* what) const {
    if (!done) shared_->logger.fail_to(what);
  }

  void set_batch(std::size_t pictures) {
    nvinfer1::Dims shape = shared_->input;
    shape.d[0] = static_cast<std::int64_t>(pictures);
    require(context_->setInputShape(shared_->input_name.c_str(), shape), "take a batch of this size");
  }

  void enqueue(std::size_t pictures) {
    const std::size_t batch = static_cast<std::size_t>(shared_->batch);
    check(cudaMemcpyAsync(input_->device, input_->host, input_->bytes / batch * pictures,
                          cudaMemcpyHostToDevice, *stream_),
          "copy the pictures");
    require(context_->enqueueV3(*stream_), "run the engine");
    check(cudaMemcpyAsync(output_->host, output_->device, output_->bytes / batch * pictures,
                          cudaMemcpyDeviceToHost, *stream_),
          "copy the scores");
  }

  cudaGraphExec_t captured(std::size_t pictures) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t launch = nullptr;
    check(cudaStreamBeginCapture(*stream_, cudaStreamCaptureModeThreadLocal), "begin to capture the launch");
    try {
      enqueue(pictures);
    } catch (...) {
      cudaStreamEndCapture(*stream_, &graph);  // A stream that captures runs nothing any more.
      throw;
    }
    check(cudaStreamEndCapture(*stream_, &graph), "capture the launch, as the bundle's cuda_graph asks");
    const cudaError_t error = cudaGraphInstantiate(&launch, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "make a graph of the launch, as the bundle's cuda_graph asks");
    return launch;
  }

  std::shared_ptr<const Shared> shared_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Buffer> input_, output_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;  // destroyed before the buffers that it reads
  std::vector<cudaGraphExec_t> graphs_;                   // by batch size
};

}  // namespace
}  // namespace skf

const skf::Backend* skf_backend(skf::Text why) {
  return skf::Module<skf::TensorRtNet>::table(skf::kName, why);
}
