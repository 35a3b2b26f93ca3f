// The two pages that a server serves: `local.html` (ep logs) and `dashboard.html` (the platform). No script stands in the HTML:
// the Content-Security-Policy allows files of our own origin only.
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  resolve: { alias: { "~": new URL("./src", import.meta.url).pathname } },
  build: {
    outDir: "dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
    rollupOptions: {
      input: { local: "local.html", dashboard: "dashboard.html" },
      // A hundred small files compress badly, and many wait for each other: what is always needed stands together, and so do
      // the pages of one part. Editor, Markdown and charts stay apart.
      output: {
        codeSplitting: {
          groups: [
            {
              name: "frame",
              test: /node_modules\/(react|react-dom|scheduler|@tanstack|radix-ui|@radix-ui|@floating-ui|lucide-react|clsx)\//,
            },
            {
              name: "shared",
              test: /src\/(api|design\/(?!Chart|plot|CodeEditor|CodeMirror)|conversation\/(?!Markdown))/,
            },
            {
              name: "jobs",
              test: /src\/dashboard\/(rft|tuning|sessions|create|studio)\//,
              includeDependenciesRecursively: false,
            },
            { name: "resources", test: /src\/dashboard\/resources\//, includeDependenciesRecursively: false },
          ],
        },
      },
    },
  },
  server: {
    // `npm run dev` beside a running platform or `ep logs`: TUNESMITH_DEV_TARGET says where it listens.
    proxy: Object.fromEntries(
      ["/v1", "/api", "/inference", "/dashboard/session", "/health"].map((path) => [
        path,
        // The page's own host is passed on: signing in is for the page of this origin only.
        { target: process.env.TUNESMITH_DEV_TARGET ?? "http://127.0.0.1:7777", changeOrigin: false },
      ]),
    ),
  },
  // Machines are shared and slow at times: a test fails by what it finds, not by the clock.
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}"], testTimeout: 60_000 },
});
