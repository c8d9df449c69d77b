#!/usr/bin/env node
// Plain JavaScript that old runtimes can parse: it must be able to say that the runtime is too old.
var major = Number(process.versions.node.split(".")[0]);
if (major < 24) {
  process.stderr.write(
    "kvatlas needs Node 24 or newer, this is " +
      process.version +
      ": run it as `npm run -s kvatlas -- ARGS` (npm install brings Node 24), or install Node 24.\n",
  );
  process.exit(1);
}
var here = new URL(".", import.meta.url);
var fs = await import("node:fs");
var source = new URL("../src/cli/main.ts", here);
await import(fs.existsSync(source) ? source.href : new URL("../dist/cli/main.js", here).href);
