// Bundles the front end into the Python package: the loader that every view carries, and the code
// that all views of a kernel share; and JupyterLab's side panel beside it. Nothing is fetched at run time.
import * as esbuild from "esbuild";
import { small } from "./css.mjs";
import { buildLab } from "./lab/build.mjs";

const options = {
  entryPoints: { loader: "src/loader.ts", views: "src/main.tsx", page: "src/page.ts" },
  outdir: "../nnsight_magic/views/static",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  charset: "utf8",
  plugins: [small],
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
};

if (process.argv.includes("--watch")) {
  const context = await esbuild.context(options);
  await context.watch();
} else {
  await esbuild.build(options);
  await buildLab();
}
