// Which file imports which, and the circles among them.
import { dirname, join } from "node:path";

const IMPORT =
  /^(?:import|export)\b[^"';]*?from\s*["'](\.[^"']*)["']|^import\s*["'](\.[^"']*)["']|\bimport\(\s*["'](\.[^"']*)["']/gm;

/** What each of the files imports, by names of files. */
export function importsOf(texts) {
  return new Map(
    [...texts].map(([name, text]) => {
      const found = [...text.matchAll(IMPORT)].map((match) => join(dirname(name), match[1] ?? match[2] ?? match[3]));
      return [name, found.flatMap((each) => [each, `${each}.ts`, `${each}.tsx`].filter((file) => texts.has(file)))];
    }),
  );
}

/** Circles, each as the files in it, the first again at the end. */
export function circlesIn(imports) {
  const [circles, done] = [[], new Set()];
  const visit = (name, path) => {
    if (path.includes(name)) circles.push([...path.slice(path.indexOf(name)), name]);
    else if (!done.has(name)) {
      for (const each of imports.get(name) ?? []) visit(each, [...path, name]);
      done.add(name);
    }
  };
  for (const name of imports.keys()) visit(name, []);
  return circles;
}
