// What both apps begin with: theme, query client, error boundary of the last resort, messages.
import "./theme.css";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { type ReactNode, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ApiError } from "~/api/http";
import { Toasts } from "./Toast";
import { startTheme } from "./theme";

const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      // Streams say when something changed; a look on focus covers what was missed while the machine slept.
      staleTime: 30_000,
      retry: (count, error) =>
        count < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
    },
  },
});

export function start(app: ReactNode): void {
  startTheme();
  const root = document.getElementById("root");
  if (!root) throw new Error("The page has no #root.");
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queryClient}>
        {app}
        <Toasts />
      </QueryClientProvider>
    </StrictMode>,
  );
}
