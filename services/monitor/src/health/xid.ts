/** What an XID error asks for (NVIDIA's "immediate action" for data-centre GPUs). */
export type XidAction = "none" | "restart_task" | "reset_gpu" | "restart_machine" | "inspect";

/** `46`, or `[46, 64]` for a range with both ends. */
type Ranges = readonly (number | readonly [number, number])[];

const actions: readonly (readonly [XidAction, Ranges])[] = [
  ["reset_gpu", [46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158]],
  ["restart_machine", [79]],
  ["inspect", [48, 54, 74, [144, 150]]],
  [
    "none",
    [
      0,
      14,
      37,
      38,
      43,
      44,
      63,
      66,
      67,
      92,
      93,
      [106, 108],
      121,
      137,
      141,
      152,
      153,
      154,
      157,
      160,
      161,
    ],
  ],
];

/**
 * The action that an XID asks for. XIDs that blame the application, and those that no list names, are the task's
 * affair: the worker classifies its end.
 */
export function xidAction(xid: number): XidAction {
  for (const [action, ranges] of actions) {
    const listed = ranges.some((range) =>
      typeof range === "number" ? range === xid : xid >= range[0] && xid <= range[1],
    );
    if (listed) return action;
  }
  return "restart_task";
}
