// Two layers of a network, with all that connects them; it takes the colours of the theme.
import { LabIcon } from "@jupyterlab/ui-components";

const DRAWING = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="20"><g class="jp-icon3" fill="#616161"><circle cx="5" cy="6" r="2.4"/><circle cx="5" cy="12" r="2.4"/><circle cx="5" cy="18" r="2.4"/><circle cx="19" cy="9" r="2.4"/><circle cx="19" cy="15" r="2.4"/><path d="M5 6 19 9M5 6l14 9M5 12l14-3M5 12l14 3M5 18l14-9M5 18l14-3" fill="none" class="jp-icon3-stroke" stroke="#616161" stroke-width="1.2"/></g></svg>`;

export const icon = new LabIcon({ name: "nnsight-magic:model", svgstr: DRAWING });
