// What every part of the example needs: failing loudly, timing kernels, comparing with the CPU.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <cuda_runtime.h>

// Exit codes, also in the README.
constexpr int kExitMismatch = 1;
constexpr int kExitUsage = 2;
constexpr int kExitNoDevice = 3;
constexpr int kExitCudaError = 4;

#define CUDA_CHECK(call)                                                                     \
  do {                                                                                       \
    const cudaError_t status = (call);                                                       \
    if (status != cudaSuccess) {                                                             \
      std::fprintf(stderr, "cuda example: %s: %s\n", #call, cudaGetErrorString(status));     \
      std::exit(kExitCudaError);                                                             \
    }                                                                                        \
  } while (0)

// Memory on the device, freed at the end of its scope.
class DeviceFloats {
 public:
  explicit DeviceFloats(size_t count) : count_(count) {
    CUDA_CHECK(cudaMalloc(&data_, count * sizeof(float)));
  }
  explicit DeviceFloats(const std::vector<float>& host) : DeviceFloats(host.size()) {
    CUDA_CHECK(cudaMemcpy(data_, host.data(), count_ * sizeof(float), cudaMemcpyHostToDevice));
  }
  DeviceFloats(const DeviceFloats&) = delete;
  DeviceFloats& operator=(const DeviceFloats&) = delete;
  ~DeviceFloats() { cudaFree(data_); }

  float* get() const { return data_; }

  std::vector<float> toHost() const {
    std::vector<float> host(count_);
    CUDA_CHECK(cudaMemcpy(host.data(), data_, count_ * sizeof(float), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  size_t count_;
  float* data_ = nullptr;
};

// Runs `launch` once to warm up and then `repeats` times; mean milliseconds by the device's clock.
template <typename Launch>
float meanMilliseconds(int repeats, Launch launch) {
  cudaEvent_t begin;
  cudaEvent_t end;
  CUDA_CHECK(cudaEventCreate(&begin));
  CUDA_CHECK(cudaEventCreate(&end));
  launch();
  CUDA_CHECK(cudaGetLastError());
  CUDA_CHECK(cudaEventRecord(begin));
  for (int repeat = 0; repeat < repeats; ++repeat) launch();
  CUDA_CHECK(cudaGetLastError());
  CUDA_CHECK(cudaEventRecord(end));
  CUDA_CHECK(cudaEventSynchronize(end));
  float total = 0;
  CUDA_CHECK(cudaEventElapsedTime(&total, begin, end));
  CUDA_CHECK(cudaEventDestroy(begin));
  CUDA_CHECK(cudaEventDestroy(end));
  return total / static_cast<float>(repeats);
}

// The largest |got − want| ÷ max(1, |want|); infinite where a number is not one.
inline double worstError(const std::vector<float>& got, const std::vector<float>& want) {
  double worst = got.size() == want.size() ? 0.0 : INFINITY;
  for (size_t at = 0; at < got.size() && at < want.size(); ++at) {
    const double expected = want[at];
    const double error = std::fabs(got[at] - expected) / std::fmax(1.0, std::fabs(expected));
    if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
  }
  return worst;
}

// Numbers in [−1, 1) that depend on the seed alone.
inline std::vector<float> noise(size_t count, unsigned seed) {
  std::vector<float> numbers(count);
  unsigned state = seed * 2654435761u + 1u;
  for (float& number : numbers) {
    state = state * 1664525u + 1013904223u;
    number = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return numbers;
}
