//! All blocks of a map, one after the other: [`Visitor`].

use super::{NodeRef, Whose};
use crate::block::BlockDevice;
use crate::space::Extent;
use crate::store::{Result, Store};

/// A node, and what must stand there: of two that differ in that and stand in one block, one at
/// most is not damaged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub node: NodeRef,
    /// Blocks of contents that it maps.
    pub blocks: u32,
    /// Whether it may have holes, as a volume's.
    pub is_sparse: bool,
}

/// A caller of [`Store::visit`], which looks at all nodes and runs of a map.
pub(crate) trait Visitor {
    /// Looks at a node, and returns whether it is to be read, and what is below it visited.
    fn node(&mut self, node: &Expected) -> bool;

    /// Learns that a node was read, and breaks no rule. What is below it comes next.
    fn read(&mut self, node: &Expected);

    /// Looks at a run of a leaf.
    fn run(&mut self, run: Extent);

    /// Learns that a node can't be read, or breaks a rule.
    fn fault(&mut self);
}

impl<D: BlockDevice> Store<D> {
    /// Visits a map from `node` on, which has `blocks` blocks of contents. What is below a damaged
    /// node is left out, and all else is visited.
    ///
    /// # Errors
    ///
    /// The error of the first node that could not be read, when all others were visited.
    pub(crate) fn visit(
        &mut self,
        whose: Whose,
        node: NodeRef,
        blocks: u32,
        visitor: &mut dyn Visitor,
    ) -> Result<(), D> {
        let expected = Expected { node, blocks, is_sparse: whose.is_sparse() };
        if !visitor.node(&expected) {
            return Ok(());
        }
        let read = self.read_node(whose, &node, blocks).inspect_err(|_| visitor.fault())?;
        visitor.read(&expected);
        let mut result = Ok(());
        for nth in (0..read.count()).filter(|nth| !whose.is_sparse() || !read.is_hole(*nth)) {
            if node.level == 0 {
                if !read.is_again(nth) {
                    visitor.run(read.run(nth).on_disk());
                }
            } else {
                let below =
                    self.visit(whose, read.child(nth), read.span(nth).len() as u32, visitor);
                result = result.and(below);
            }
        }
        result
    }
}
