// What is known of a module, as badges: saved, written, not run, to be saved.
import type { NoteForm } from "../core/wire";

interface Props {
  note: NoteForm;
  wanted: boolean;
  /** so many saved tensors by name at most, the others as a number */
  most?: number;
  /** whether it is about the modules inside, which are not shown */
  inside?: boolean;
}

export function Badges({ note, wanted, most = Infinity, inside = false }: Props) {
  const where = inside ? " inside" : "";
  const look = `nnv-badge${inside ? " nnv-inside" : ""}`;
  const saved = note.s ?? [];
  const shown = saved.length > most ? saved.slice(0, most - 1) : saved;
  return (
    <>
      {shown.map((name) => (
        <span class={`${look} nnv-saved`} key={name} title={`saved${where} as ${name}`}>
          {name}
        </span>
      ))}
      {saved.length > shown.length && (
        <span class={`${look} nnv-saved nnv-short`} title={`saved${where} as ${saved.join(", ")}`}>
          +{saved.length - shown.length}
        </span>
      )}
      {note.w && (
        <span class={`${look} nnv-wrote`} title={inside ? "written inside" : undefined}>
          written
        </span>
      )}
      {note.n && <span class="nnv-badge">not run</span>}
      {wanted && <span class="nnv-badge nnv-saved">save next</span>}
    </>
  );
}
