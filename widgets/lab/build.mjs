// Bundles JupyterLab's side panel: one file that JupyterLab 4 and Notebook 7 load as a prebuilt extension.
//
// They load such extensions by the protocol of module federation: a file puts an object with `init` and
// `get` on the page, `init` is given the modules that the application shares, `get` gives ours. What the
// application shares is taken from there and not bundled.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { small } from "../css.mjs";

const NAME = "nnsight-magic";
const HERE = dirname(fileURLToPath(import.meta.url));
const BUILT = join(HERE, "built/labextensions", NAME);
const VERSION = /^__version__ = "(.+)"$/m.exec(readFileSync(join(HERE, "../../nnsight_magic/version.py"), "utf8"))[1];
const SHARED = /^(@jupyterlab\/|@lumino\/|@codemirror\/(state|view|language)$)/;

/** Imports of shared modules read `__shared`, which the entry fills; `names` gathers them. */
const sharing = (names) => ({
  name: "shared",
  setup(build) {
    build.onResolve({ filter: SHARED }, ({ path }) => {
      names.add(path);
      return { path, namespace: "shared" };
    });
    build.onLoad({ filter: /.*/, namespace: "shared" }, ({ path }) => ({
      contents: `module.exports = __shared[${JSON.stringify(path)}]`,
    }));
  },
});

/** A notebook that is imported comes without what its cells have shown. */
const notebooks = {
  name: "notebooks",
  setup(build) {
    build.onLoad({ filter: /\.ipynb$/ }, ({ path }) => {
      const { cells, metadata, ...rest } = JSON.parse(readFileSync(path, "utf8"));
      const bare = cells.map((cell) =>
        cell.cell_type === "code" ? { ...cell, outputs: [], execution_count: null } : cell,
      );
      const { widgets: _, ...kept } = metadata;
      return { contents: JSON.stringify({ ...rest, metadata: kept, cells: bare }), loader: "json" };
    });
  },
};

/** The file that JupyterLab loads. Of several versions of a module it takes the one in use, else the newest. */
const entryOf = (code, names) => `(() => {
let scope;
const newest = (versions) => Object.keys(versions).sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).pop();
const pick = (versions) => versions[Object.keys(versions).find((each) => versions[each].loaded) ?? newest(versions)];
const get = async () => {
  const __shared = {};
  for (const name of ${JSON.stringify([...names].sort())}) {
    if (!scope[name]) throw new Error("${NAME}: JupyterLab shares no " + name);
    __shared[name] = (await pick(scope[name]).get())();
  }
  const module = { exports: {} };
  (function (module, exports, __shared) {${code}
})(module, module.exports, __shared);
  return () => module.exports;
};
(window._JUPYTERLAB ??= {})["${NAME}"] = { init: (given) => { scope = given; }, get };
})();
`;

/** Writes the extension as JupyterLab wants to find it in `share/jupyter/labextensions`. */
export async function buildLab() {
  const names = new Set();
  const { outputFiles } = await esbuild.build({
    entryPoints: [join(HERE, "src/index.ts")],
    bundle: true,
    write: false,
    format: "cjs",
    platform: "browser",
    mainFields: ["module", "main"],
    target: "es2022",
    minify: true,
    legalComments: "none",
    charset: "utf8",
    jsx: "automatic",
    jsxImportSource: "preact",
    define: { VERSION: JSON.stringify(VERSION) },
    plugins: [sharing(names), notebooks, small],
    logLevel: "warning",
  });
  const entry = entryOf(outputFiles[0].text, names);
  const load = `static/remoteEntry.${createHash("sha256").update(entry).digest("hex").slice(0, 16)}.js`;
  const about = { name: NAME, version: VERSION };
  rmSync(BUILT, { recursive: true, force: true });
  mkdirSync(join(BUILT, "static"), { recursive: true });
  mkdirSync(join(BUILT, "schemas", NAME), { recursive: true });
  writeFileSync(join(BUILT, load), entry);
  writeFileSync(join(BUILT, "schemas", NAME, "plugin.json"), readFileSync(join(HERE, "schema.json")));
  writeFileSync(join(BUILT, "schemas", NAME, "package.json.orig"), JSON.stringify(about));
  writeFileSync(
    join(BUILT, "install.json"),
    JSON.stringify({
      packageManager: "python",
      packageName: "nnsight_magic",
      uninstallInstructions: "pip uninstall nnsight_magic",
    }),
  );
  const jupyterlab = { extension: true, schemaDir: "schema", _build: { load, extension: "./extension" } };
  writeFileSync(join(BUILT, "package.json"), JSON.stringify({ ...about, jupyterlab }));
}
