// The kinds of views that there are, by the name that a model gives its kind.
import { ChartView } from "./chart/chart";
import { ChecksView } from "./checks/checks";
import { CompareView } from "./compare/compare";
import { register } from "./core/view";
import { HeadsView } from "./heads/heads";
import { PointsView } from "./points/points";
import { StepsView } from "./steps/steps";
import { TensorView } from "./tensor/tensor";
import { GridView } from "./tokens/grid";
import { TokensView } from "./tokens/tokens";
import { TraceView } from "./trace/trace";
import { TreeView } from "./tree/tree";
import { WrittenView } from "./written/written";

/** Makes every kind known to `View`. */
export function registerAll(): void {
  register("tensor", TensorView);
  register("tree", TreeView);
  register("tokens", TokensView);
  register("grid", GridView);
  register("heads", HeadsView);
  register("points", PointsView);
  register("steps", StepsView);
  register("compare", CompareView);
  register("checks", ChecksView);
  register("chart", ChartView);
  register("written", WrittenView);
  register("trace", TraceView);
}
