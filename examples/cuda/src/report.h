// Structured progress and results, in the places that FastGPU names.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>

// Writes one line {"step":…,"of":…,"metrics":{…}} to FASTGPU_PROGRESS_FD or FASTGPU_PROGRESS_FILE.
// A reader that has gone must not end the computation, so failures are not looked at.
inline void reportProgress(int step, int of, const char* metric, double value) {
  char line[256];
  const int length = std::snprintf(line, sizeof line, "{\"step\":%d,\"of\":%d,\"metrics\":{\"%s\":%.6g}}\n",
                                   step, of, metric, value);
  if (const char* descriptor = std::getenv("FASTGPU_PROGRESS_FD"); descriptor && *descriptor) {
    if (write(std::atoi(descriptor), line, static_cast<size_t>(length)) < 0) return;
  } else if (const char* path = std::getenv("FASTGPU_PROGRESS_FILE"); path && *path) {
    if (std::FILE* file = std::fopen(path, "a")) {
      std::fputs(line, file);
      std::fclose(file);
    }
  }
}

// Writes results.json into FASTGPU_OUTPUT_DIR; without one it does nothing. False: it failed.
inline bool writeResults(const std::string& json) {
  const char* directory = std::getenv("FASTGPU_OUTPUT_DIR");
  if (!directory || !*directory) return true;
  std::FILE* file = std::fopen((std::string(directory) + "/results.json").c_str(), "w");
  if (!file) return false;
  const bool written = std::fputs(json.c_str(), file) >= 0;
  return std::fclose(file) == 0 && written;
}
