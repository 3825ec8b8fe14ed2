// The two kernels, and the same sums on the CPU.
#pragma once

#include <vector>

// y ← a·x + y, a grid-stride loop: right for any count and any grid.
__global__ void saxpy(size_t count, float a, const float* x, float* y) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t at = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < count; at += stride) {
    y[at] = a * x[at] + y[at];
  }
}

constexpr int kTile = 16;

// C ← A·B, row by row, n×n. Each block computes one 16×16 tile of C and brings the tiles of A and
// B that it needs through shared memory; places beyond the edge count as zeros.
__global__ void multiply(int n, const float* a, const float* b, float* c) {
  __shared__ float tileA[kTile][kTile];
  __shared__ float tileB[kTile][kTile];
  const int row = blockIdx.y * kTile + threadIdx.y;
  const int column = blockIdx.x * kTile + threadIdx.x;
  float sum = 0;
  for (int start = 0; start < n; start += kTile) {
    const int columnA = start + threadIdx.x;
    const int rowB = start + threadIdx.y;
    tileA[threadIdx.y][threadIdx.x] =
        row < n && columnA < n ? a[static_cast<size_t>(row) * n + columnA] : 0.0f;
    tileB[threadIdx.y][threadIdx.x] =
        rowB < n && column < n ? b[static_cast<size_t>(rowB) * n + column] : 0.0f;
    __syncthreads();
    for (int at = 0; at < kTile; ++at) sum += tileA[threadIdx.y][at] * tileB[at][threadIdx.x];
    __syncthreads();
  }
  if (row < n && column < n) c[static_cast<size_t>(row) * n + column] = sum;
}

inline std::vector<float> saxpyOnCpu(float a, const std::vector<float>& x, std::vector<float> y) {
  for (size_t at = 0; at < y.size(); ++at) y[at] = a * x[at] + y[at];
  return y;
}

inline std::vector<float> multiplyOnCpu(int n, const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<double> sums(n);
  std::vector<float> c(static_cast<size_t>(n) * n);
  for (int row = 0; row < n; ++row) {
    for (double& sum : sums) sum = 0;
    for (int inner = 0; inner < n; ++inner) {
      const double factor = a[static_cast<size_t>(row) * n + inner];
      const float* rowB = &b[static_cast<size_t>(inner) * n];
      for (int column = 0; column < n; ++column) sums[column] += factor * rowB[column];
    }
    for (int column = 0; column < n; ++column) {
      c[static_cast<size_t>(row) * n + column] = static_cast<float>(sums[column]);
    }
  }
  return c;
}
