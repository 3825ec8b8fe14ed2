// A vector and a matrix kernel on the GPU, each checked against the CPU.

#include <algorithm>
#include <csignal>
#include <cstring>

#include "check.cuh"
#include "kernels.cuh"
#include "report.h"

namespace {

constexpr int kSteps = 2;
constexpr int kRepeats = 20;
constexpr double kTolerance = 1e-4;

struct Outcome {
  float milliseconds;
  double rate;  // GB/s for saxpy, GFLOP/s for the product
  double error;
};

Outcome runSaxpy(size_t count) {
  const float a = 2.5f;
  const std::vector<float> x = noise(count, 1);
  const std::vector<float> y = noise(count, 2);
  const DeviceFloats deviceX(x);

  const DeviceFloats once(y);
  const int threads = 256;
  const int blocks = static_cast<int>(std::min<size_t>((count + threads - 1) / threads, 65535));
  saxpy<<<blocks, threads>>>(count, a, deviceX.get(), once.get());
  CUDA_CHECK(cudaGetLastError());
  const double error = worstError(once.toHost(), saxpyOnCpu(a, x, y));

  // With a factor of 0 the repeats leave y as it is.
  const float milliseconds = meanMilliseconds(
      kRepeats, [&] { saxpy<<<blocks, threads>>>(count, 0.0f, deviceX.get(), once.get()); });
  const double bytes = 3.0 * sizeof(float) * static_cast<double>(count);
  return {milliseconds, bytes / (milliseconds * 1e6), error};
}

Outcome runMultiply(int n) {
  const size_t count = static_cast<size_t>(n) * n;
  const std::vector<float> a = noise(count, 3);
  const std::vector<float> b = noise(count, 4);
  const DeviceFloats deviceA(a);
  const DeviceFloats deviceB(b);
  const DeviceFloats deviceC(count);
  const dim3 threads(kTile, kTile);
  const dim3 blocks((n + kTile - 1) / kTile, (n + kTile - 1) / kTile);
  const float milliseconds = meanMilliseconds(kRepeats, [&] {
    multiply<<<blocks, threads>>>(n, deviceA.get(), deviceB.get(), deviceC.get());
  });
  const double error = worstError(deviceC.toHost(), multiplyOnCpu(n, a, b));
  return {milliseconds, 2.0 * n * n * static_cast<double>(n) / (milliseconds * 1e6), error};
}

bool showOutcome(const char* what, const char* unit, const Outcome& outcome) {
  const bool right = outcome.error <= kTolerance;
  std::printf("%-28s %9.3f ms  %9.1f %-8s worst error %.1e  %s\n", what, outcome.milliseconds, outcome.rate,
              unit, outcome.error, right ? "agrees with the CPU" : "DIFFERS FROM THE CPU");
  std::fflush(stdout);
  return right;
}

void findDevice(cudaDeviceProp* device) {
  if (const char* simulated = std::getenv("FASTGPU_GPU_SIMULATED"); simulated && !std::strcmp(simulated, "1")) {
    std::fprintf(stderr, "cuda example: the leased GPU is simulated; this program needs a real one.\n"
                         "  try: simulated: forbid in the task's spec, or --simulated forbid\n");
    std::exit(kExitNoDevice);
  }
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "cuda example: no CUDA device: %s\n",
                 status == cudaSuccess ? "the driver lists none" : cudaGetErrorString(status));
    std::exit(kExitNoDevice);
  }
  CUDA_CHECK(cudaGetDeviceProperties(device, 0));
}

bool readSize(const char* text, int least, int most, int* size) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end || value < least || value > most) return false;
  *size = static_cast<int>(value);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  int vectorSize = 1 << 24;
  int matrixSize = 1000;
  if (argc > 3 || (argc > 1 && !readSize(argv[1], 1, 1 << 30, &vectorSize)) ||
      (argc > 2 && !readSize(argv[2], 1, 8192, &matrixSize))) {
    std::fprintf(stderr, "Usage: fastgpu-cuda-example [VECTOR_SIZE (to 2^30)] [MATRIX_SIZE (to 8192)]\n");
    return kExitUsage;
  }
  std::signal(SIGPIPE, SIG_IGN);
  cudaDeviceProp device;
  findDevice(&device);
  std::printf("device: %s, compute capability %d.%d, %d multiprocessors, %zu MiB\n", device.name, device.major,
              device.minor, device.multiProcessorCount, device.totalGlobalMem >> 20);
  std::fflush(stdout);

  const Outcome vector = runSaxpy(static_cast<size_t>(vectorSize));
  bool right = showOutcome(("saxpy, " + std::to_string(vectorSize)).c_str(), "GB/s", vector);
  reportProgress(1, kSteps, "saxpy_gb_per_second", vector.rate);

  const Outcome matrix = runMultiply(matrixSize);
  const std::string side = std::to_string(matrixSize);
  right = showOutcome(("multiply, " + side + " x " + side).c_str(), "GFLOP/s", matrix) && right;
  reportProgress(2, kSteps, "multiply_gflop_per_second", matrix.rate);

  char json[512];
  std::snprintf(json, sizeof json,
                "{\"device\":\"%s\",\"right\":%s,"
                "\"saxpy\":{\"size\":%d,\"milliseconds\":%.6g,\"gbPerSecond\":%.6g,\"worstError\":%.3g},"
                "\"multiply\":{\"size\":%d,\"milliseconds\":%.6g,\"gflopPerSecond\":%.6g,\"worstError\":%.3g}}\n",
                device.name, right ? "true" : "false", vectorSize, vector.milliseconds, vector.rate, vector.error,
                matrixSize, matrix.milliseconds, matrix.rate, matrix.error);
  if (!writeResults(json)) {
    std::fprintf(stderr, "cuda example: results.json could not be written\n");
    return kExitCudaError;
  }
  return right ? 0 : kExitMismatch;
}
