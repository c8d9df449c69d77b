import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    // Two cores: integration tests start real servers, so files run a few at a time.
    maxWorkers: 2,
    // Limits of what hangs, far above what anything takes on a busy machine.
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
