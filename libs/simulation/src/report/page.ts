import { escapeHtml } from "./escape.ts";

/**
 * Colours that stay apart for colour-blind readers (Okabe and Ito, 2008), as variables: light on dark where the reader's
 * system wants it so.
 */
const style = `:root{color-scheme:light dark;--text:#1b1f24;--quiet:#57606a;--line:#d8dee4;--ground:#fff;--mark:#fff4ce;
--s0:#0072b2;--s1:#d55e00;--s2:#00795a;--s3:#a8508a;--s4:#946200;--s5:#1f78a8;--s6:#000}
@media (prefers-color-scheme:dark){:root{--text:#e6edf3;--quiet:#9da7b1;--line:#30363d;--ground:#0d1117;--mark:#3a2f0b;
--s0:#56b4e9;--s1:#ff8c42;--s2:#2fc79a;--s3:#e39ac6;--s4:#e69f00;--s5:#8fd0f5;--s6:#fff}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:var(--text);background:var(--ground)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:.5rem 0}
caption{text-align:left;color:var(--quiet)}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}
svg{width:100%;height:auto;fill:var(--quiet)}h2{margin:2rem 0 .2rem;font-size:1.05rem}p,summary{margin:.2rem 0;color:var(--quiet)}
.simulated{background:var(--mark);color:var(--text);padding:.3rem .6rem;border-radius:4px;display:inline-block}
.wide{overflow-x:auto}`;

/** A whole page that needs nothing else: no scripts, nothing fetched, for light and dark screens. */
export function renderPage(title: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title><style>${style}</style></head>
<body><main><h1>${escapeHtml(title)}</h1>${body}</main></body></html>
`;
}

/** A table; the first row is its head unless it has none. The first cell of each row names it. */
export function renderTable(
  rows: readonly (readonly string[])[],
  options: { readonly head?: boolean; readonly caption?: string } = {},
): string {
  const [first, ...rest] = rows;
  const head =
    options.head === false || first === undefined
      ? ""
      : `<thead><tr>${first.map((cell) => `<th scope="col">${escapeHtml(cell)}</th>`).join("")}</tr></thead>`;
  const lines = (options.head === false ? rows : rest).map(
    ([name = "", ...cells]) =>
      `<tr><th scope="row">${escapeHtml(name)}</th>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join("")}</tr>`,
  );
  const caption =
    options.caption === undefined ? "" : `<caption>${escapeHtml(options.caption)}</caption>`;
  return `<div class="wide"><table>${caption}${head}<tbody>${lines.join("")}</tbody></table></div>`;
}
