import { randomBytes } from "node:crypto";
import type { Clock } from "@fastgpu/domain/clock";
import type { OrgId } from "@fastgpu/domain/ids";
import { masterKeyOf } from "@fastgpu/lifecycle/master-key";
import type { MasterKey } from "@fastgpu/lifecycle/master-key";
import type { Querier } from "@fastgpu/postgres/pool";
import { getSealedDataKey, insertSealedDataKey } from "../store/data-keys.ts";
import type { ChunkKeys } from "./chunk-file.ts";

/** Organisations whose keys are kept in memory. */
const KEPT = 1_000;

/** The keys of an organisation's chunks; made when it first stores something. */
export type DataKeys = (org: OrgId) => Promise<ChunkKeys>;

/** Reads data keys, unsealed in memory only. `core` goes round row-level security: keys are no tenant's to see. */
export function openDataKeys(options: {
  readonly core: Querier;
  readonly master: MasterKey;
  readonly clock: Clock;
}): DataKeys {
  const { core, master, clock } = options;
  const kept = new Map<OrgId, Promise<ChunkKeys>>();
  const load = async (org: OrgId): Promise<ChunkKeys> => {
    const context = `storage-data-key/${org}`;
    let sealed = await getSealedDataKey(core, org);
    if (sealed === undefined) {
      const fresh = master.seal(randomBytes(32), context);
      await insertSealedDataKey(core, { org, sealed: fresh, nowMs: clock.nowMs() });
      // Another process may have been first: its key counts.
      sealed = (await getSealedDataKey(core, org)) ?? fresh;
    }
    const dataKey = masterKeyOf(master.open(sealed, context));
    return { encryption: dataKey.derive("chunks"), address: dataKey.derive("chunk-addresses") };
  };
  return (org) => {
    const known = kept.get(org);
    if (known !== undefined) return known;
    const loading = load(org);
    loading.catch(() => kept.delete(org));
    kept.set(org, loading);
    for (const oldest of kept.keys()) {
      if (kept.size <= KEPT) break;
      kept.delete(oldest);
    }
    return loading;
  };
}
