// Runs before the first paint, so that the page never flashes in the other theme. Without a choice, CSS follows the system.
{
  const chosen = localStorage.getItem("ecr.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
