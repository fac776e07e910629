//! The files that the rules look at, read once.

use std::fs;
use std::path::Path;

use crate::manifest::Manifest;
use crate::{Failure, Result};

/// Every text file of the repository that some rule cares for.
#[derive(Debug, Default)]
pub(super) struct Repository {
    files: Vec<File>,
}

/// A file with its path from the root, written with `/`.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

/// A member of the workspace.
#[derive(Debug)]
pub(super) struct Member {
    /// The path of its `Cargo.toml`.
    pub(super) path: String,
    pub(super) manifest: Manifest,
}

impl Repository {
    /// Reads all Rust, Markdown and Cargo files below `root`, except build output.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let cannot_read = |error| Failure::new(format!("cannot read {}: {error}", folder.display()));
            for entry in fs::read_dir(&folder).map_err(cannot_read)? {
                let path = entry.map_err(cannot_read)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_dir() && !path.is_symlink() {
                    if name != "target" && name != ".git" {
                        folders.push(path);
                    }
                } else if name == "Cargo.toml" || name.ends_with(".rs") || name.ends_with(".md") {
                    let text = fs::read_to_string(&path)
                        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
                    let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                    files.push(File { path, text });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// A made-up repository, for the tests of the rules.
    #[cfg(test)]
    pub(super) fn sample(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
        Self { files: files.iter().map(file).collect() }
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The Rust files.
    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The Markdown files.
    pub(super) fn markdown(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".md"))
    }

    /// The manifest of the workspace.
    pub(super) fn workspace(&self) -> Manifest {
        Manifest::parse(self.file("Cargo.toml").map_or("", |file| &file.text))
    }

    /// The members of the workspace, in the order in which it names them.
    pub(super) fn members(&self) -> Vec<Member> {
        let read = |folder: String| {
            let path = format!("{folder}/Cargo.toml");
            let manifest = Manifest::parse(&self.file(&path)?.text);
            Some(Member { path, manifest })
        };
        self.workspace().members().into_iter().filter_map(read).collect()
    }
}

impl Member {
    pub(super) fn name(&self) -> &str {
        self.manifest.package().unwrap_or_default()
    }
}
