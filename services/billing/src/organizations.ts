import { createHash, randomBytes } from "node:crypto";
import type { Clock } from "@fastgpu/domain/clock";
import { idToUuid, newId } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { Logger } from "@fastgpu/telemetry/log";
import {
  accountsExist,
  currency,
  insertOrgAccount,
  isFirstOrganization,
  lockAccounts,
  platformAccounts,
} from "./store/accounts.ts";
import { record } from "./store/transfers.ts";

/** What auth knows and billing may not have heard of yet. */
export interface Directory {
  /** The organisation that owns a project; `undefined` where there is no such project. Throws UNAVAILABLE. */
  organizationOfProject(project: ProjectId): Promise<OrgId | undefined>;
  /** Whether the organisation exists. Throws UNAVAILABLE. */
  organizationExists(org: OrgId): Promise<boolean>;
}

/** Credit that new organisations start with, nano-USD. */
export interface StartingCredit {
  readonly firstNanos: bigint;
  readonly othersNanos: bigint;
}

/** Options of {@link openOrganizations}. */
export interface OrganizationsOptions {
  readonly pool: Pool;
  readonly clock: Clock;
  readonly log: Logger;
  readonly directory: Directory;
  readonly startingCredit: StartingCredit;
}

/** Accounts of organisations, opened on first sight: by event, or by asking auth when the event is late. */
export interface Organizations {
  /** Opens the account in the transaction of an event that names the organisation. */
  open(tx: Tx, org: OrgId): Promise<void>;
  /**
   * Sees to it that the organisations of the scheduler's projects have accounts. New ones are looked up at auth. While
   * auth does not answer the scheduler's word is taken, since it admitted their work by a token that auth had signed:
   * one new customer must not hold up everybody's leases. Returns those that exist.
   */
  ensureVouched(wanted: ReadonlyMap<OrgId, ProjectId>): Promise<Set<OrgId>>;
  /** Asks auth about an organisation that is not known; false where it does not exist. Throws UNAVAILABLE. */
  ensureExisting(org: OrgId): Promise<boolean>;
  /** Opens the account of an organisation whose existence is proven (by its own token) where it has none. */
  ensureKnown(org: OrgId): Promise<void>;
}

/** Opens the registry. Accounts never go away, so that those seen once are remembered. */
export function openOrganizations(options: OrganizationsOptions): Organizations {
  const seen = new Set<OrgId>();

  const open = async (tx: Tx, org: OrgId): Promise<void> => {
    const nowMs = options.clock.nowMs();
    const first = await isFirstOrganization(tx, org);
    const id = idToUuid(newId("acct", nowMs, randomBytes(10)));
    if (!(await insertOrgAccount(tx, { id, org, nowMs }))) return;
    const { firstNanos, othersNanos } = options.startingCredit;
    const amountNanos = first ? firstNanos : othersNanos;
    options.log.info({ org, first, amountNanos: String(amountNanos) }, "account opened");
    if (amountNanos === 0n) return;
    await lockAccounts(tx, [org], ["grants"]);
    const transfer = {
      kind: "posted",
      id: openingId(org),
      code: "grant",
      debit: platformAccounts.grants,
      credit: id,
      amountNanos,
    } as const;
    await record(tx, [{ transfer, subject: idToUuid(org) }], { currency, nowMs });
  };

  const ensureKnown = async (org: OrgId): Promise<void> => {
    if (seen.has(org)) return;
    await transaction(options.pool, (tx) => open(tx, org));
    seen.add(org);
  };

  /** Remembers those of these organisations that have an account already. */
  const recall = async (orgs: readonly OrgId[]): Promise<void> => {
    const missing = orgs.filter((org) => !seen.has(org));
    if (missing.length === 0) return;
    for (const org of await accountsExist(options.pool, missing)) seen.add(org);
  };

  return {
    open,
    ensureKnown,
    async ensureVouched(wanted) {
      await recall([...wanted.keys()]);
      for (const [org, project] of wanted) {
        if (seen.has(org)) continue;
        const owner = await options.directory
          .organizationOfProject(project)
          .catch((error: unknown) => {
            options.log.warn(
              { err: error, org },
              "auth does not answer; taking the scheduler's word",
            );
            return org;
          });
        if (owner === org) await ensureKnown(org);
      }
      return new Set([...wanted.keys()].filter((org) => seen.has(org)));
    },
    async ensureExisting(org) {
      await recall([org]);
      if (seen.has(org)) return true;
      if (!(await options.directory.organizationExists(org))) return false;
      await ensureKnown(org);
      return true;
    },
  };
}

/** The opening grant has one possible id, so that it can only be given once. */
function openingId(org: OrgId): string {
  return deriveUuid("opening", org);
}

/** A uuid (version 8, RFC 9562) that the same parts always make. */
export function deriveUuid(...parts: readonly string[]): string {
  const bytes = createHash("sha256").update(parts.join("\0")).digest().subarray(0, 16);
  bytes[6] = 0x80 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
