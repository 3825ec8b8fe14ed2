import { existsSync, writeFileSync } from "node:fs";

/**
 * System calls refused in every container, on top of having no capability: new namespaces and mounts (the usual way
 * to kernel bugs), kernel modules, tracing of the kernel, and interfaces with a history of escapes.
 */
const refused = [
  "acct",
  "add_key",
  "bpf",
  "clock_adjtime",
  "clock_settime",
  "delete_module",
  "finit_module",
  "fsconfig",
  "fsmount",
  "fsopen",
  "fspick",
  "init_module",
  "io_uring_enter",
  "io_uring_register",
  "io_uring_setup",
  "ioperm",
  "iopl",
  "kexec_file_load",
  "kexec_load",
  "keyctl",
  "lookup_dcookie",
  "mount",
  "mount_setattr",
  "move_mount",
  "name_to_handle_at",
  "open_by_handle_at",
  "open_tree",
  "perf_event_open",
  "pivot_root",
  "quotactl",
  "reboot",
  "request_key",
  "setns",
  "settimeofday",
  "swapoff",
  "swapon",
  "syslog",
  "umount",
  "umount2",
  "unshare",
  "userfaultfd",
  "vhangup",
];

const eperm = 1;
const enosys = 38;
const newNamespaces = 0x7e020000;

/** Writes the profile where it is not yet; returns nothing. */
export function writeSeccompProfile(path: string): void {
  if (existsSync(path)) return;
  const profile = {
    defaultAction: "SCMP_ACT_ALLOW",
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
    syscalls: [
      { names: refused, action: "SCMP_ACT_ERRNO", errnoRet: eperm },
      // clone3 hides its flags from the filter: without it, libraries fall back to clone.
      { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: enosys },
      ...namespaceFlags().map((flag) => ({
        names: ["clone"],
        action: "SCMP_ACT_ERRNO",
        errnoRet: eperm,
        args: [{ index: 0, value: flag, valueTwo: flag, op: "SCMP_CMP_MASKED_EQ" }],
      })),
    ],
  };
  writeFileSync(path, JSON.stringify(profile), { mode: 0o600 });
}

/** Each CLONE_NEW* bit alone: a filter matches "this bit is set", one rule a bit. */
function namespaceFlags(): number[] {
  return Array.from({ length: 31 }, (_, bit) => 2 ** bit).filter(
    (flag) => (newNamespaces & flag) !== 0,
  );
}
