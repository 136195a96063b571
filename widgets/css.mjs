// Style sheets are texts in the bundles, which a saved notebook stores: without comments and blanks.
import { readFile } from "node:fs/promises";
import { transform } from "esbuild";

/** A style sheet that is imported is its text, as short as it can be. */
export const small = {
  name: "small",
  setup(build) {
    build.onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, "utf8"), { loader: "css", minify: true, target: "es2022" });
      return { contents: code.trim(), loader: "text" };
    });
  },
};
