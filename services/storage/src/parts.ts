import { randomBytes } from "node:crypto";
import type { Clock } from "@fastgpu/domain/clock";
import { newId } from "@fastgpu/domain/ids";
import type { ArtifactId } from "@fastgpu/domain/ids";
import type { Database } from "@fastgpu/postgres/database";
import type { PageTokens } from "@fastgpu/rpc/page-token";
import type { Authenticator } from "@fastgpu/rpc/authenticator";
import type { GrantVerifier } from "@fastgpu/rpc/storage-grant";
import type { ChunkStore } from "./chunks/chunk-store.ts";
import type { DataKeys } from "./chunks/data-keys.ts";
import type { Slots } from "./slots.ts";

/** What every handler of the service works with. */
export interface StorageParts {
  readonly db: Database;
  readonly store: ChunkStore;
  readonly dataKeys: DataKeys;
  readonly clock: Clock;
  readonly pageTokens: PageTokens;
  /** Greatest size of a file, in bytes. */
  readonly maxArtifactBytes: number;
  /** Longest silence of an upload stream, in milliseconds. */
  readonly uploadSilenceMs: number;
  readonly uploadSlots: Slots;
  readonly downloadSlots: Slots;
  /** Reads the grants that the scheduler has signed. */
  readonly grants: GrantVerifier;
  /** Refuses workers' calls without one. */
  readonly requireGrants: boolean;
  /** The organisation of a project, from auth's directory. */
  readonly resolveProject: Authenticator["resolveProject"];
  /** Called after a commit that appended events. */
  wakeRelay(): void;
}

/** A fresh id. */
export function newArtifactId(nowMs: number): ArtifactId {
  return newId("art", nowMs, randomBytes(10));
}
