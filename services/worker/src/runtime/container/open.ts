import type { EngineAddress } from "../../keeper/wire.ts";
import { createDocker } from "./docker.ts";
import type { Engine } from "./engine.ts";
import { createPodman } from "./podman.ts";

/** The engine behind an address. */
export function openEngine(address: EngineAddress): Engine {
  switch (address.kind) {
    case "podman":
      return createPodman(address);
    case "docker":
      return createDocker(address);
  }
}
