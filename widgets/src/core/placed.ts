// A view may be drawn before it is in the page: JupyterLab fills a cell first and shows it later.
// What depends on the place (styles, the ground's colour, a twin beside it) is looked up again then.

/** Calls `look` now, and again when the element comes into the page, leaves it or changes its size. */
export function whenPlaced(element: Element, look: () => void): () => void {
  look();
  // An element outside the page has no size, so its first size is its arrival.
  const sizes = new ResizeObserver(look);
  sizes.observe(element);
  return () => sizes.disconnect();
}
