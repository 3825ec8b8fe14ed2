/* A stand-in for NVIDIA's management library with two fixed GPUs, for tests without a GPU. */
#include <stdint.h>
#include <string.h>
#include <stdio.h>

typedef struct { uint64_t total, free, used; } memory_t;
typedef struct { uint32_t gpu, memory; } utilization_t;
typedef struct {
  char legacy[16];
  uint32_t domain, bus, device, id, subsystem;
  char bus_id[32];
} pci_t;

static int gpus[2] = {0, 1};

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(uint32_t *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(uint32_t i, void **device) {
  if (i > 1) return 2;
  *device = &gpus[i];
  return 0;
}
int nvmlDeviceGetUUID(void *device, char *text, uint32_t length) {
  snprintf(text, length, "GPU-stub-%d", *(int *)device);
  return 0;
}
int nvmlDeviceGetName(void *device, char *text, uint32_t length) {
  (void)device;
  snprintf(text, length, "Stub GPU");
  return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
  memory->total = 80ull << 30;
  memory->used = (uint64_t)(1 + *(int *)device) << 30;
  memory->free = memory->total - memory->used;
  return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
  rates->gpu = 40 + *(int *)device;
  rates->memory = 10;
  return 0;
}
int nvmlDeviceGetTemperature(void *device, int sensor, uint32_t *value) {
  (void)device;
  *value = sensor == 0 ? 55 : 0;
  return 0;
}
int nvmlDeviceGetPowerUsage(void *device, uint32_t *milliwatts) {
  (void)device;
  *milliwatts = 123456;
  return 0;
}
int nvmlDeviceGetClockInfo(void *device, int type, uint32_t *mhz) {
  (void)device;
  *mhz = type == 1 ? 1410 : 1593;
  return 0;
}
/* This device does not count energy: NVML_ERROR_NOT_SUPPORTED. */
int nvmlDeviceGetTotalEnergyConsumption(void *device, uint64_t *value) {
  (void)device;
  (void)value;
  return 3;
}
int nvmlDeviceGetMinorNumber(void *device, uint32_t *minor) {
  *minor = 90 + *(int *)device;
  return 0;
}
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *pci) {
  memset(pci, 0, sizeof *pci);
  snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:3%d:00.0", *(int *)device);
  return 0;
}
