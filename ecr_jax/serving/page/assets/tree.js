// The messages of a conversation are a tree: editing a message or asking again adds a sibling. A path from the start to a
// leaf is what is read as the conversation.

/** Messages with `id`, `parent_id` (null at the start) and `role`, in the order in which they were made. */
export class Tree {
  constructor(messages) {
    this.messages = messages;
    this.byId = new Map(messages.map((message) => [message.id, message]));
  }

  /** The messages from the start to `id`; none for null. */
  path(id) {
    const path = [];
    for (let message = this.byId.get(id); message; message = this.byId.get(message.parent_id)) path.push(message);
    return path.reverse();
  }

  /** The newest message, which is a leaf; of the branch of `id` where it is given. Null where there is none. */
  newest(id = null) {
    return this.messages.findLast((one) => id === null || this.path(one.id).some((other) => other.id === id))?.id ?? null;
  }

  /** The messages that can stand in the place of a message, itself among them. */
  versions({ parent_id: parent, role }) {
    return this.messages.filter((one) => one.parent_id === parent && one.role === role);
  }
}
