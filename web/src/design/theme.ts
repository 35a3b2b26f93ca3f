// Light, dark, or as the system says; kept in this browser. `nonce` lets libraries add the styles that the policy would refuse.
import { setNonce } from "get-nonce";
import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";

const KEY = "tunesmith-theme";
const wakes = new Set<() => void>();
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export const nonce = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content || undefined;

/** Call once before the first render. */
export function startTheme(): void {
  if (nonce) setNonce(nonce);
  dark.addEventListener("change", apply);
  apply();
}

export function useTheme(): { theme: Theme; shown: "light" | "dark"; setTheme: (theme: Theme) => void } {
  const shown = useSyncExternalStore(subscribe, current);
  return { theme: chosen(), shown, setTheme };
}

function setTheme(theme: Theme): void {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // A browser without storage forgets the choice; the page works.
  }
  apply();
}

function chosen(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system";
  }
}

function current(): "light" | "dark" {
  const theme = chosen();
  return theme === "system" ? (dark.matches ? "dark" : "light") : theme;
}

function apply(): void {
  document.documentElement.dataset.theme = current();
  for (const wake of wakes) wake();
}

function subscribe(wake: () => void): () => void {
  wakes.add(wake);
  return () => wakes.delete(wake);
}
