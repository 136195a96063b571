// The settings page: what is set there is the default of the magics' options, in every kernel.
import type { NotebookTracker } from "@jupyterlab/notebook";
import type { Settings } from "@jupyterlab/settingregistry";
import { followFront } from "./front";
import { type Link, linkOf } from "./link";

/** Tells each kernel that comes to the front what is set, and all of them again when it changes. */
export function followSettings(settings: Settings, tracker: NotebookTracker): void {
  const links = new Set<Link>();
  const tell = (link: Link) => {
    if (link.standing === "open") void link.ask("configure", { settings: settings.user });
  };
  followFront(tracker, ({ kernel }) => {
    if (!kernel) return;
    const link = linkOf(kernel);
    if (links.has(link)) return;
    links.add(link);
    let standing = link.standing;
    tell(link);
    link.onChange(() => {
      if (standing !== link.standing) tell(link);
      standing = link.standing;
    });
  });
  settings.changed.connect(() => links.forEach(tell));
}
