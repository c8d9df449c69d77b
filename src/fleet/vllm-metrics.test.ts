import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { METRICS_BYTES_MAX, parseVllmMetrics } from "./vllm-metrics.ts";

/** vLLM 0.6 era. */
const OLD = `# HELP vllm:num_requests_running Number of requests currently running on GPU.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="meta-llama/Llama-3.1-8B"} 4.0
vllm:num_requests_swapped{model_name="meta-llama/Llama-3.1-8B"} 0.0
vllm:num_requests_waiting{model_name="meta-llama/Llama-3.1-8B"} 2.0
vllm:gpu_cache_usage_perc{model_name="meta-llama/Llama-3.1-8B"} 0.31
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="27500",num_cpu_blocks="None"} 1.0
`;

/** vLLM V1 with two data-parallel ranks. */
const RANKS = `vllm:num_requests_running{engine="0",model_name="m"} 4.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:num_requests_waiting{engine="1",model_name="m"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 1e-1
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:cache_config_info{block_size="32",engine="0",num_gpu_blocks="100"} 1.0
vllm:cache_config_info{block_size="32",engine="1",num_gpu_blocks="200"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} NaN
`;

function reasonOf(text: string): string | null {
  const parsed = parseVllmMetrics(text);
  return parsed.ok ? null : parsed.reason;
}

describe("parseVllmMetrics", () => {
  it("reads the names of old versions", () => {
    expect(parseVllmMetrics(OLD)).toEqual({
      ok: true,
      value: { waiting: 2, running: 4, kvUsage: 0.31, blockSizeTokens: 16, gpuBlocks: 27_500 },
    });
  });

  it("sums counts over data-parallel ranks and takes the highest usage", () => {
    expect(parseVllmMetrics(RANKS)).toEqual({
      ok: true,
      value: { waiting: 3, running: 5, kvUsage: 0.75, blockSizeTokens: 32, gpuBlocks: 300 },
    });
  });

  it("reads names with Ray's prefixes", () => {
    const text = "ray_vllm:num_requests_waiting 2\nray_vllm_num_requests_running 3\n";
    expect(parseVllmMetrics(text)).toMatchObject({ ok: true, value: { waiting: 2, running: 3 } });
  });

  it("reads labels with escapes, braces and commas, line ends of Windows, and timestamps", () => {
    const text = 'vllm:num_requests_waiting{model_name="a\\"}, b\\\\",x="",} 7 1690000000\r\n';
    expect(parseVllmMetrics(text)).toMatchObject({ ok: true, value: { waiting: 7 } });
  });

  it("says null for what is not exported", () => {
    expect(parseVllmMetrics("# nothing\n\nup 1\n")).toEqual({
      ok: true,
      value: {
        waiting: null,
        running: null,
        kvUsage: null,
        blockSizeTokens: null,
        gpuBlocks: null,
      },
    });
  });

  it("says null for a pool that is not sized yet", () => {
    const text = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1\n';
    expect(parseVllmMetrics(text)).toMatchObject({
      ok: true,
      value: { blockSizeTokens: 16, gpuBlocks: null },
    });
  });

  it.each([
    "vllm:num_requests_waiting NaN",
    "vllm:num_requests_waiting 1e308",
    "vllm:num_requests_running 1000001",
    "vllm:num_requests_waiting +Inf",
    "vllm:num_requests_running -1",
    "vllm:num_requests_running 0x10",
    "vllm:num_requests_running",
    'vllm:num_requests_running{model_name="m 4',
    'vllm:num_requests_running{model_name="m",!} 4',
    "vllm:kv_cache_usage_perc 1.5",
    "vllm:kv_cache_usage_perc 0.5 soon",
    "<html><body>502</body></html>",
    '{"error": "not found"}',
  ])("refuses %s", (line) => {
    expect(reasonOf(`${line}\n`)).toBe("malformed");
  });

  it("refuses a text over the limit", () => {
    expect(reasonOf("#".repeat(METRICS_BYTES_MAX + 1))).toBe("too-large");
  });

  it("never throws and never lets a bad value through", () => {
    const names = fc.constantFrom(
      "vllm:num_requests_waiting",
      "vllm:kv_cache_usage_perc",
      "vllm:cache_config_info",
      "x",
    );
    const labels = fc.oneof(
      fc.constant(""),
      fc.string().map((text) => `{a="${text}"}`),
    );
    const value = fc.oneof(fc.double().map(String), fc.string());
    const line = fc.tuple(names, labels, value).map(([name, a, b]) => `${name}${a} ${b}`);
    fc.assert(
      fc.property(fc.array(fc.oneof(line, fc.string())), (lines) => {
        const parsed = parseVllmMetrics(lines.join("\n"));
        if (!parsed.ok) return;
        for (const signal of Object.values(parsed.value)) {
          expect(signal === null || (Number.isFinite(signal) && signal >= 0)).toBe(true);
        }
        expect(parsed.value.kvUsage ?? 0).toBeLessThanOrEqual(1);
      }),
    );
  });
});
