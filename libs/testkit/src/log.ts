import { createLogger } from "@fastgpu/telemetry/log";
import type { Logger } from "@fastgpu/telemetry/log";

/** A logger for tests: silent, or what FASTGPU_TEST_LOG says (`debug`). */
export const quiet: Logger = createLogger({
  service: "test",
  level: process.env["FASTGPU_TEST_LOG"] ?? "silent",
});
