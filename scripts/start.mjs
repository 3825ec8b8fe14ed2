// `npm start`: installs what is missing, then `fastgpu start` from the checkout.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { root } from "./bootstrap.mjs";

const given = process.argv.slice(2);
const data = given.some((arg) => arg === "--data" || arg.startsWith("--data="));
const inCheckout = existsSync(join(root, "nx.json"));
process.argv.splice(
  2,
  given.length,
  "clients/cli/bin/fastgpu.mjs",
  "start",
  ...(data || !inCheckout ? [] : ["--data", join(root, ".fastgpu")]),
  ...given,
);
await import("./run.mjs");
