// `npm test`: installs what is missing, then every test; `npm test -- PATH …` runs those below a path.
import { ensureInstalled } from "./bootstrap.mjs";

ensureInstalled();
process.argv.splice(2, 0, "scripts/test.ts");
await import("./run.mjs");
