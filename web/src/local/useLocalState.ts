// The state in the address, for components.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback } from "react";
import { DEFAULTS, type LocalState } from "./state";

/** The state, and a way to change parts of it. `quietly`: the view before is not kept for the back button. */
export function useLocalState(): [LocalState, (change: Partial<LocalState>, quietly?: boolean) => void] {
  const state = { ...DEFAULTS, ...(useSearch({ strict: false }) as Partial<LocalState>) };
  const navigate = useNavigate();
  const change = useCallback(
    (part: Partial<LocalState>, quietly = false) => {
      navigate({ to: ".", search: (before: object) => ({ ...before, ...part }), replace: quietly });
    },
    [navigate],
  );
  return [state, change];
}
