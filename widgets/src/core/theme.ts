// Whether the view stands on light or on dark ground, also after the theme is switched.
import { useEffect, useState } from "preact/hooks";
import type { Ground } from "./colour";
import { whenPlaced } from "./placed";

export function groundOf(element: Element): Ground {
  const themed = document.body?.dataset["jpThemeLight"];
  if (themed !== undefined) return themed === "false" ? "dark" : "light";
  const classes = document.body?.classList;
  if (classes?.contains("vscode-dark") || classes?.contains("vscode-high-contrast")) return "dark";
  for (let at: Element | null = element; at; at = at.parentElement) {
    const parts = getComputedStyle(at)
      .backgroundColor.match(/[\d.]+/g)
      ?.map(Number);
    if (parts && parts.length >= 3 && (parts[3] ?? 1) > 0.5) {
      return 0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2] < 128 ? "dark" : "light";
    }
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export function useGround(element: () => Element | null): Ground {
  const [ground, setGround] = useState<Ground>(() => groundOf(element() ?? document.body));
  useEffect(() => {
    const look = () => setGround(groundOf(element() ?? document.body));
    const unplaced = whenPlaced(element() ?? document.body, look);
    const observer = new MutationObserver(look);
    const attributes = { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-light"] };
    observer.observe(document.body, attributes);
    observer.observe(document.documentElement, attributes);
    const media = matchMedia("(prefers-color-scheme: dark)");
    media.addEventListener("change", look);
    return () => {
      unplaced();
      observer.disconnect();
      media.removeEventListener("change", look);
    };
  }, []);
  return ground;
}
