// The quickstart, as the launcher's card and the palette open it: a copy in the user's own folder.
import type { Application } from "@jupyterlab/application";
import notebook from "../../../notebooks/quickstart.ipynb";

/** Opens `nnsight_magic quickstart.ipynb` in a folder, and makes it first where it is not there. */
export async function openQuickstart(application: Application, folder: string): Promise<void> {
  const { contents } = application.serviceManager;
  const path = `${folder ? `${folder}/` : ""}nnsight_magic quickstart.ipynb`;
  try {
    await contents.get(path, { content: false });
  } catch {
    await contents.save(path, { type: "notebook", format: "json", content: notebook });
  }
  await application.commands.execute("docmanager:open", { path });
}
