import manifest from "../package.json" with { type: "json" };

/** The product's version, one for all parts. */
export const VERSION = manifest.version;
