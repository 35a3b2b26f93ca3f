// run.html: one job, in one file, to scrub through.
import "~/design/theme.css";
import { createRoot } from "react-dom/client";
import { startTheme } from "~/design/theme";

startTheme();
createRoot(document.getElementById("root") as HTMLElement).render(<main />);
