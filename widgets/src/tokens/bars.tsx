// Probabilities as bars, with the cell's writes and without them side by side.
import { percent } from "../core/format";
import { Token } from "../core/parts";
import { type Guess, together } from "./strips";

interface BarsProps {
  now: Guess[];
  clean: Guess[];
  head?: string;
  heads?: [string, string];
}

export function Bars({ now, clean, head = "next token", heads = ["with writes", "without"] }: BarsProps) {
  const compared = clean.length > 0;
  const rows = together(now, clean);
  return (
    <table class="nnv-bars">
      <thead>
        <tr>
          <th scope="col">{head}</th>
          <th scope="col" colSpan={2}>
            {compared ? heads[0] : "probability"}
          </th>
          {compared && (
            <th scope="col" colSpan={2}>
              {heads[1]}
            </th>
          )}
        </tr>
      </thead>
      <tbody>
        {rows.map(({ token, now: p, clean: q }, k) => (
          <tr key={k}>
            <td>
              <span class="nnv-tok">
                <Token text={token} />
              </span>
            </td>
            <Share p={p} kind="now" />
            {compared && <Share p={q} kind="clean" />}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Share({ p, kind }: { p: number | null; kind: "now" | "clean" }) {
  return (
    <>
      <td class="nnv-p">{p === null ? "–" : percent(p)}</td>
      <td>
        <span class={`nnv-bar nnv-${kind}`}>
          {p !== null && <span style={{ width: `${Math.min(1, Math.max(0, p ?? 0)) * 100}%` }} />}
        </span>
      </td>
    </>
  );
}
