/** The command line's entry in an archive that brings its own Node: nothing to hand over. */
import { enableCompileCache } from "node:module";
import { main } from "./main.ts";

enableCompileCache();
await main();
