// A widget's traits as hooks, and the models that they refer to.
import { useCallback, useEffect, useState } from "preact/hooks";
import { kernelOf } from "./kernel";
import type { Model } from "./widget";

/** Tells the kernel what was set, where there is one. */
export function tell(model: Model): void {
  if (!kernelOf(model).cut) model.save_changes();
}

/** A trait's value, kept up to date, and what sets it here and in Python. */
export function useTrait<T>(model: Model, name: string): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => model.get(name));
  useEffect(() => {
    const changed = () => setValue(() => model.get(name));
    changed();
    model.on(`change:${name}`, changed);
    return () => model.off(`change:${name}`, changed);
  }, [model, name]);
  const set = useCallback(
    (next: T) => {
      model.set(name, next);
      tell(model);
    },
    [model, name],
  );
  return [value, set];
}

const PREFIX = "IPY_MODEL_";

/** The model that a trait refers to; on some front ends the trait is that model already. */
export async function referred(model: Model, reference: unknown): Promise<Model> {
  if (!reference) throw new Error("nothing is referred to");
  if (typeof reference !== "string") return reference as Model;
  const id = reference.startsWith(PREFIX) ? reference.slice(PREFIX.length) : reference;
  return model.widget_manager.get_model(id);
}

/** The models that a trait refers to: null while they are fetched. */
export function useReferred(model: Model, references: unknown[]): (Model | null)[] {
  const [models, setModels] = useState<(Model | null)[]>([]);
  const key = references.map(String).join();
  useEffect(() => {
    let current = true;
    Promise.all(references.map((each) => referred(model, each).catch(() => null))).then((found) => {
      if (current) setModels(found);
    });
    return () => {
      current = false;
    };
  }, [model, key]);
  return models;
}
