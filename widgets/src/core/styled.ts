// The views' style, put once into the page or into the shadow that an element stands in.

const styled = new WeakMap<Node, Set<string>>();

export function style(element: Element, text: string): void {
  const root = element.getRootNode() as Document | ShadowRoot;
  const known = styled.get(root) ?? new Set();
  if (known.has(text) || !("adoptedStyleSheets" in root)) return;
  styled.set(root, known.add(text));
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
}
