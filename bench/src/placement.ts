/** Placement quality on openb-format traces (goal G2). */
export async function main(args: readonly string[]): Promise<number> {
  process.stdout.write(`usage: npm run bench -- placement --nodes FILE --pods FILE[,FILE]\n`);
  return args.includes("--help") ? 0 : 2;
}
