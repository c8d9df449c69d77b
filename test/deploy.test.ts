/** The Kubernetes manifests of deploy/: valid, and in step with each other and with the configuration. */
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute";
import { DestinationRule } from "@kubernetes-models/istio/networking.istio.io/v1/DestinationRule";
import { EnvoyFilter } from "@kubernetes-models/istio/networking.istio.io/v1alpha3/EnvoyFilter";
import { Deployment } from "kubernetes-models/apps/v1/Deployment";
import { PodDisruptionBudget } from "kubernetes-models/policy/v1/PodDisruptionBudget";
import { ConfigMap } from "kubernetes-models/v1/ConfigMap";
import { Service } from "kubernetes-models/v1/Service";
import { afterAll, describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { z } from "zod";
import { loadConfig } from "../src/config/file-config.ts";
import { loadEndpoints } from "../src/config/file-endpoints-check.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** By apiVersion and kind; others have no published schema among our libraries. */
const MODELS = {
  "v1 ConfigMap": ConfigMap,
  "v1 Service": Service,
  "apps/v1 Deployment": Deployment,
  "policy/v1 PodDisruptionBudget": PodDisruptionBudget,
  "gateway.networking.k8s.io/v1 HTTPRoute": HTTPRoute,
  "networking.istio.io/v1 DestinationRule": DestinationRule,
  "networking.istio.io/v1alpha3 EnvoyFilter": EnvoyFilter,
} as const;
const WITHOUT_MODEL = [
  "inference.networking.k8s.io/v1 InferencePool",
  "gateway.envoyproxy.io/v1alpha1 ClientTrafficPolicy",
  "networking.gke.io/v1 HealthCheckPolicy",
  "networking.gke.io/v1 GCPBackendPolicy",
];

const manifestSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
});
type Manifest = z.infer<typeof manifestSchema>;

function manifestsOf(pattern: string): Manifest[] {
  return globSync(pattern, { cwd: ROOT })
    .filter((file) => !file.endsWith("-values.yaml"))
    .flatMap((file) => parseAllDocuments(readFileSync(join(ROOT, file), "utf8")))
    .map((document) => manifestSchema.parse(document.toJS()));
}

const manifests = manifestsOf("deploy/{kubernetes,gateways}/*.yaml");
const typeOf = ({ apiVersion, kind }: Manifest): string => `${apiVersion} ${kind}`;
const named = (kind: string): Manifest => {
  const found = manifests.find((manifest) => manifest.kind === kind);
  if (found === undefined) throw new Error(`no ${kind}`);
  return found;
};

describe("manifests", () => {
  it.each(manifests.map((manifest) => [`${manifest.kind} ${manifest.metadata.name}`, manifest]))(
    "%s is as its schema demands",
    (_, manifest) => {
      if (typeof manifest === "string") throw new Error("not a manifest");
      const type = typeOf(manifest);
      if (WITHOUT_MODEL.includes(type)) return;
      const Model = z.enum(Object.keys(MODELS) as (keyof typeof MODELS)[]).parse(type);
      // The constructors take the fields of their type, which is what is to be found out.
      expect(() => new MODELS[Model](manifest as never).validate()).not.toThrow();
    },
  );
});

describe("deploy/kubernetes/kvatlas.yaml", () => {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-deploy-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  const { data } = z
    .object({ data: z.object({ "kvatlas.yaml": z.string(), "endpoints.yaml": z.string() }) })
    .parse(named("ConfigMap"));
  for (const [name, text] of Object.entries(data)) writeFileSync(join(folder, name), text);
  const config = loadConfig(join(folder, "kvatlas.yaml"));

  const deployment = new Deployment(named("Deployment") as never);
  const pod = deployment.spec?.template;
  const container = pod?.spec?.containers[0];
  const service = new Service(named("Service") as never);
  const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(":") + 1));
  const containerPorts = new Map(container?.ports?.map((port) => [port.name, port.containerPort]));

  it("has endpoints that are accepted", () => {
    expect(loadEndpoints(config).length).toBeGreaterThan(0);
  });

  it("opens the ports that the configuration listens on, to the pod network", () => {
    const { listen, healthListen } = config.extProc;
    const { adminListen } = config.observe;
    for (const address of [listen, healthListen, adminListen]) {
      expect(address).toMatch(/^0\.0\.0\.0:/);
    }
    expect(Object.fromEntries(containerPorts)).toEqual({
      "ext-proc": portOf(listen),
      health: portOf(healthListen),
      admin: portOf(adminListen),
    });
    for (const { port, targetPort } of service.spec?.ports ?? []) {
      expect(containerPorts.get(String(targetPort))).toBe(port);
    }
  });

  it("is asked for its health where it says it", () => {
    const port = portOf(config.extProc.healthListen);
    const liveness = { grpc: { port, service: "liveness" } };
    expect(container?.livenessProbe).toMatchObject(liveness);
    expect(container?.startupProbe).toMatchObject(liveness);
    expect(container?.readinessProbe?.httpGet).toEqual({ path: "/readyz", port: "admin" });
  });

  it("reads its configuration and writes its store where the volumes are", () => {
    const mounts = container?.volumeMounts?.map((mount) => mount.mountPath) ?? [];
    const [program, command, option, file] = container?.args ?? [];
    expect([program, command, option]).toEqual(["kvatlas", "serve", "--config"]);
    expect(mounts).toContain(join(file ?? "", ".."));
    expect(mounts).toContain(join(config.index.path ?? "", ".."));
    const volumes = pod?.spec?.volumes?.map((volume) => volume.name);
    expect(container?.volumeMounts?.map((mount) => mount.name)).toEqual(volumes);
  });

  it("gives a drain the time that it takes, and the index its memory", () => {
    const graceMs = (pod?.spec?.terminationGracePeriodSeconds ?? 0) * 1000;
    expect(graceMs).toBeGreaterThan(config.extProc.drainMs);
    const memory = String(container?.resources?.requests?.["memory"]);
    const gibibytes = Number(/^(\d+)Gi$/.exec(memory)?.[1]);
    expect(gibibytes * 1_073_741_824).toBeGreaterThan(2 * config.index.bytesMax);
  });

  it("runs two routers, and the Service and the budget select their pods", () => {
    expect(deployment.spec?.replicas).toBe(2);
    const budget = new PodDisruptionBudget(named("PodDisruptionBudget") as never);
    const labels = pod?.metadata?.labels;
    expect(deployment.spec?.selector.matchLabels).toEqual(labels);
    expect(service.spec?.selector).toEqual(labels);
    expect(budget.spec?.selector?.matchLabels).toEqual(labels);
  });

  it("is what the gateways' manifests name", () => {
    const poolSchema = z.object({
      spec: z.looseObject({
        endpointPickerRef: z.looseObject({
          name: z.string(),
          port: z.object({ number: z.number() }),
          failureMode: z.enum(["FailOpen", "FailClose"]),
        }),
        targetPorts: z.array(z.object({ number: z.number() })),
      }),
    });
    const { endpointPickerRef, targetPorts } = poolSchema.parse(named("InferencePool")).spec;
    expect(endpointPickerRef.name).toBe(service.metadata?.name);
    expect(endpointPickerRef.port.number).toBe(portOf(config.extProc.listen));
    const enginePorts = loadEndpoints(config).map(({ id }) => portOf(id));
    expect(new Set(enginePorts)).toEqual(new Set(targetPorts.map((port) => port.number)));
    const rule = new DestinationRule(named("DestinationRule") as never);
    expect(rule.spec?.host).toMatch(new RegExp(`^${service.metadata?.name}\\.`));
    const gkePolicies = manifests.filter(({ apiVersion }) => apiVersion === "networking.gke.io/v1");
    const services = [named("InferencePool").metadata.name, service.metadata?.name];
    for (const policy of gkePolicies) {
      const { spec } = z
        .object({ spec: z.looseObject({ targetRef: z.looseObject({ name: z.string() }) }) })
        .parse(policy);
      expect(services).toContain(spec.targetRef.name);
    }
    const policies = manifests.filter(({ kind }) => kind === "HealthCheckPolicy");
    const checked = JSON.stringify(policies.find(({ metadata }) => metadata.name === "kvatlas"));
    expect(checked).toContain(`"port":${portOf(config.extProc.healthListen)}`);
  });
});
