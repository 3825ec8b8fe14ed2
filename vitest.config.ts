import { defineConfig } from "vitest/config";

/** One configuration for every project: nx runs it per project, `npm test -- PATH` on a path. */
export default defineConfig({
  oxc: { target: "es2024" },
  test: {
    include: ["**/*.test.ts"],
    exclude: ["**/node_modules/**", "**/dist/**"],
    globalSetup: ["libs/testkit/src/global-setup.ts"],
    setupFiles: ["libs/testkit/src/random-cases.ts"],
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
  },
});
